"""Schedules: jobs that the broker's timers submit."""

from shared.contracts.schedules.cron import Cron, TimingError, interval, time_zone
from shared.contracts.schedules.schedule import Missed, Overlap, Schedule, Timing, check_schedule_name

__all__ = [
    "Cron",
    "Missed",
    "Overlap",
    "Schedule",
    "Timing",
    "TimingError",
    "check_schedule_name",
    "interval",
    "time_zone",
]
