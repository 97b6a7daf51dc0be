"""The protocol of a source."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Listed", "Source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file of a source. `stamp` changes whenever its content does, as far as can be told without reading it.

    `load` returns its bytes; raises Problem where it cannot be read. `allowed` are the principals that may see it, as
    the source says, and None where it says nothing.
    """

    name: str
    size: int
    stamp: str
    load: Callable[[], Awaitable[bytes]]
    allowed: Sequence[str] | None = None


class Source(Protocol):
    """Files that a job may ingest."""

    @property
    def origin(self) -> str:
        """Where all of them come from, as documents' records say it."""

    async def list(self) -> list[Listed]:
        """All files by name: the whole truth, or Problem. Hidden ones are left out."""
