"""The broker's error codes that decide what is done next."""

from typing import Final

__all__ = ["CHANGED", "IN_PROCESS", "QUEUE_FULL"]

QUEUE_FULL: Final = frozenset({10077, 10023, 10028, 10047, 10122, 10167})
"""The broker's refusals for want of room: per subject, of memory, and of the stream as a whole."""

IN_PROCESS: Final = 10158
"""The refusal of a message by a cluster whose nodes have not agreed yet on the same message, sent before."""

CHANGED: Final = frozenset({10071, 10164})
"""The refusals of a write that names an older revision than the last."""
