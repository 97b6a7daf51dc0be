"""Schedules: jobs that the broker's timers submit."""

from shared.schedules.cron import Cron, TimingError, interval, time_zone
from shared.schedules.model import Missed, Overlap, Schedule, Timing, check_schedule_name
from shared.schedules.store import Schedules

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
