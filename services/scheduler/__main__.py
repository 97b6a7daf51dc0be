"""`python -m services.scheduler`: run the scheduler; `--settings` prints its settings."""

from shared.service.imports import uncollected

if __name__ == "__main__":
    with uncollected():
        from services.scheduler.app import make
        from services.scheduler.settings import SchedulerSettings
        from shared.service.process import main

    main("scheduler", SchedulerSettings, make)
