"""`python -m services.scheduler`: run the scheduler; `--settings` prints its settings."""

from services.scheduler.app import make
from services.scheduler.settings import SchedulerSettings
from shared.process import main

if __name__ == "__main__":
    main("scheduler", SchedulerSettings, make)
