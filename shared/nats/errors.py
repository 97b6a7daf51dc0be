"""The broker's error codes that decide what is done next."""

from typing import Final

from nats.js.errors import APIError

__all__ = [
    "CHANGED",
    "CHANGING",
    "IN_PROCESS",
    "MEMORY_RESERVED",
    "NO_MESSAGE",
    "OUTDATED",
    "QUEUE_FULL",
    "STORAGE_FULL",
    "is_in_other_storage",
    "is_storage_full",
]

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

MEMORY_RESERVED: Final = 10028
"""The refusal of a stream in memory for which the broker has none left to set aside. Of several processes that make one
stream at once, the broker sets memory aside for each, until all but one have found that it is there."""

NO_MESSAGE: Final = 10037
"""The answer of a stream that has no message such as the request names. No stream is another one."""

STORAGE_FULL: Final = frozenset({10023, 10047})
"""The refusals of a stream in files for want of room: the broker's limit is reached, or set aside for other streams."""

NO_SPACE: Final = "no space left on device"

OTHER_STORAGE: Final = "storage type can not be updated"


def is_storage_full(error: APIError) -> bool:
    """Whether this is the refusal of a stream in files for want of room. One in memory has 10023 too."""
    # The client's own errors of records have neither.
    code, description = getattr(error, "err_code", None), getattr(error, "description", None)
    return code in STORAGE_FULL or NO_SPACE in (description or "").lower()


def is_in_other_storage(error: APIError) -> bool:
    """Whether this is the refusal to move a consumer between memory and disk. Its code is that of many refusals."""
    return OTHER_STORAGE in (error.description or "").lower()
