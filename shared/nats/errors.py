"""The broker's error codes that decide what is done next."""

from typing import Final

__all__ = ["CHANGED", "CHANGING", "IN_PROCESS", "OUTDATED", "QUEUE_FULL"]

QUEUE_FULL: Final = frozenset({10077, 10023, 10028, 10047, 10122, 10167})
"""The broker's refusals for want of room: per subject, of memory, and of the stream as a whole."""

IN_PROCESS: Final = 10158
"""The refusal of a message by a cluster whose nodes have not agreed yet on the same message, sent before."""

OUTDATED: Final = 10071
"""The refusal of a message that names an older sequence than the last of its subject."""

CHANGING: Final = 10164
"""The same by a cluster whose nodes have not agreed yet on another message of the subject."""

CHANGED: Final = frozenset({OUTDATED, CHANGING})
"""The refusals of a write that names an older revision than the last."""
