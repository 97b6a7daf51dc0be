"""Schedules: jobs that the broker's timers submit."""

from shared.contracts.schedules.cron import Cron, TimingError, interval, time_zone
from shared.contracts.schedules.schedule import Missed, Overlap, Schedule, Timing, check_schedule_name
from shared.stores.schedules import Schedules

__all__ = [
    "Cron",
    "Missed",
    "Overlap",
    "Schedule",
    "Schedules",
    "Timing",
    "TimingError",
    "check_schedule_name",
    "interval",
    "time_zone",
]
