"""What readers see of a collection in memory, kept for those who searched last."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from services.retriever.serving.languages import SpokenLanguages
from services.retriever.serving.snapshot import Snapshot

__all__ = ["View", "Views"]

KEPT: Final = 8
"""Views of one snapshot: each takes a byte of memory a row, and eight more with its statistics."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The snapshot as a reader sees it, and the languages of the passages in it."""

    snapshot: Snapshot
    languages: SpokenLanguages = field(default_factory=SpokenLanguages)


class Views:
    """Of one collection, whose `languages` are those of all its passages. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.languages = SpokenLanguages()
        self._of: Snapshot | None = None
        self._known: OrderedDict[frozenset[str], View] = OrderedDict()

    def of(self, snapshot: Snapshot, readers: frozenset[str] | None) -> View:
        """What a reader with these principals sees of a snapshot; None sees all."""
        if readers is None:
            return View(snapshot, self.languages)
        with self._lock:
            if self._of is not snapshot:
                self._of = snapshot
                self._known.clear()
            if (known := self._known.get(readers)) is not None:
                self._known.move_to_end(readers)
                return known
        seen = snapshot.seen_by(readers)
        view = View(seen, self.languages) if seen is snapshot else View(seen)
        with self._lock:
            if self._of is snapshot:
                self._known[readers] = view
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
        return view
