"""What an answer says where the passages do not answer the question."""

from collections.abc import Sequence
from typing import Final

__all__ = ["NOTHING_FOUND", "NO_ANSWER", "decline"]

NOTHING_FOUND: Final = "No documents were found that answer this question."
NO_ANSWER: Final = "The documents found do not seem to answer this question."


def decline(*, found: bool, absent: Sequence[str] = ()) -> str:
    """A sentence for the reader. `found` says whether there are passages, and `absent` what no document names."""
    if absent:
        return f"The documents found do not mention {', '.join(absent)}."
    return NO_ANSWER if found else NOTHING_FOUND
