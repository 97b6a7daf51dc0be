"""What of a document a parser has seen and not read."""

from __future__ import annotations

from dataclasses import dataclass

from shared.contracts.warnings import DocumentWarning, WarningKind

__all__ = ["Missing"]


@dataclass(slots=True, kw_only=True)
class Missing:
    """Counts of parts."""

    pictures: int = 0
    drawings: int = 0
    comments: int = 0
    symbols: int = 0

    def warnings(self) -> tuple[DocumentWarning, ...]:
        """One for each kind of part that is missing."""
        told = (
            (WarningKind.SKIPPED_PART, self.pictures, "picture", "not read; text in pictures needs OCR first"),
            (WarningKind.SKIPPED_PART, self.comments, "comment", "not read"),
            (WarningKind.UNREADABLE_PART, self.drawings, "drawing", "damaged, and not read"),
            (WarningKind.UNREADABLE_PART, self.symbols, "symbol", "not known, and replaced by \ufffd"),
        )
        return tuple(
            DocumentWarning(
                kind=kind, detail=f"{count:,} {what} is {why}." if count == 1 else f"{count:,} {what}s are {why}."
            )
            for kind, count, what, why in told
            if count
        )
