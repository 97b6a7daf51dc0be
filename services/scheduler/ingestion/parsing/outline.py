"""Headings and paragraphs, in reading order, become sections with heading paths."""

from __future__ import annotations

from services.scheduler.ingestion.parsing.document import Section

__all__ = ["Outline"]


class Outline:
    """Collects a document that has headings of levels (1 is the outermost; levels may be skipped).

    No text is lost: a heading with neither text nor deeper headings below it becomes text of its parent.
    """

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._paragraphs: list[str] = []
        self._sections: list[Section] = []
        self._bare = False

    @property
    def title(self) -> str:
        """The first heading, "" before there is one."""
        return self._first

    _first = ""

    def heading(self, level: int, title: str) -> None:
        title = " ".join(title.split())
        if not title:
            return
        self._close(next_level=level)
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, title))
        self._bare = True
        self._first = self._first or title

    def add(self, text: str) -> None:
        """A paragraph, or several with blank lines between them. Blank text is ignored."""
        if text.strip():
            self._paragraphs.append(text)

    def sections(self) -> tuple[Section, ...]:
        self._close(next_level=0)
        return tuple(self._sections)

    def _close(self, *, next_level: int) -> None:
        path = tuple(title for _, title in self._path)
        if self._paragraphs:
            self._sections.append(Section(text="\n\n".join(self._paragraphs), heading=path))
        elif self._bare and next_level <= self._path[-1][0]:
            self._sections.append(Section(text=path[-1], heading=path[:-1]))
        self._paragraphs = []
        self._bare = False
