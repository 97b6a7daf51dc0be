"""`python -m services.scheduler`: run the scheduler; `--settings` prints its settings."""

import gc

if __name__ == "__main__":
    gc.disable()  # until all is imported: none of it is garbage, and to find that out takes a fifth of the time
    from services.scheduler.app import make
    from services.scheduler.settings import SchedulerSettings
    from shared.process import main

    main("scheduler", SchedulerSettings, make)
