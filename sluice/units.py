"""Times, sizes and counts as people write them."""

from datetime import datetime

__all__ = ["ago", "counted", "file_size", "moment", "took"]


def ago(moment: datetime | None) -> str:
    """How long ago a moment was, in one unit."""
    if moment is None:
        return ""
    seconds = max(0.0, (datetime.now(moment.tzinfo) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def took(started: datetime | None, ended: datetime | None) -> str:
    """How long something has taken so far, or took."""
    if started is None:
        return ""
    seconds = max(0.0, ((ended or datetime.now(started.tzinfo)) - started).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def moment(at: datetime | None) -> str:
    """A point in time, in this machine's time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at is not None else ""


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is not one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def file_size(size: int) -> str:
    """A size in bytes, in B, kB or MB."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
