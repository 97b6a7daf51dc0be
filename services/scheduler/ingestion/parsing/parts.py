"""Documents within a document: members of an archive, attachments of a mail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from services.scheduler.ingestion.parsing.document import ParsedDocument, Section
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["MAX_DEPTH", "MAX_PARTS", "MAX_PARTS_BYTES", "Part", "Parts", "PartsRead"]

MAX_DEPTH = 4
MAX_PARTS = 2_000
MAX_PARTS_BYTES = 256 * 2**20
"""Levels, parts of all levels and their bytes that one document may have."""

Read = Callable[[str, bytes, str | None, "Parts"], ParsedDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A document within another one. `size` is what it takes in memory, `load` returns its bytes."""

    name: str
    size: int
    load: Callable[[], bytes]
    media_type: str | None = None


@dataclass(slots=True)
class PartsRead:
    """What the parts hold: their sections under their names, and what is missing."""

    sections: list[Section] = field(default_factory=list)
    warnings: list[DocumentWarning] = field(default_factory=list)


@dataclass(slots=True)
class _Left:
    parts: int = MAX_PARTS
    size: int = MAX_PARTS_BYTES


class Parts:
    """Reads the documents within one, within bounds that hold over all levels together."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left = _Left()
        self._depth = 0

    def read(self, parts: Iterable[Part]) -> PartsRead:
        """Each part under its name as the outermost heading. One that cannot be read is a warning.

        Raises Problem DOCUMENT_LIMIT beyond the bounds, also where only a part is beyond its own.
        """
        if self._depth >= MAX_DEPTH:
            raise Problem(
                ProblemType.DOCUMENT_LIMIT, f"Documents are packed within each other more than {MAX_DEPTH} times."
            )
        found = PartsRead()
        for part in parts:
            self._spend(part.size)
            try:
                document = self._read(part.name, part.load(), part.media_type, self._within())
            except Problem as problem:
                if problem.kind is ProblemType.DOCUMENT_LIMIT:
                    raise
                found.warnings.append(_skipped(part.name, problem.detail))
            except (ValueError, OSError, RuntimeError, EOFError, NotImplementedError) as error:
                found.warnings.append(_skipped(part.name, f"It cannot be unpacked: {error}"))
            else:
                found.sections += [_under(part.name, section) for section in document.sections]
                found.warnings += [
                    DocumentWarning(kind=warning.kind, detail=f"{part.name}: {warning.detail}")
                    for warning in document.warnings
                ]
        return found

    def _within(self) -> Parts:
        inner = Parts(self._read)
        inner._left = self._left
        inner._depth = self._depth + 1
        return inner

    def _spend(self, size: int) -> None:
        self._left.parts -= 1
        self._left.size -= size
        if self._left.parts < 0:
            raise Problem(ProblemType.DOCUMENT_LIMIT, f"There are more than {MAX_PARTS:,} documents in it.")
        if self._left.size < 0:
            limit = MAX_PARTS_BYTES // 2**20
            raise Problem(ProblemType.DOCUMENT_LIMIT, f"The documents in it have more than {limit} MiB.")


def _under(name: str, section: Section) -> Section:
    """The section under the name of its document, unless that is its heading already, as for a mail's subject."""
    return section if section.heading[:1] == (name,) else replace(section, heading=(name, *section.heading))


def _skipped(name: str, why: str) -> DocumentWarning:
    return DocumentWarning(kind=WarningKind.SKIPPED_PART, detail=f"{name[:100]} is not read: {why}")
