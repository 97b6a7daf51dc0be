"""What of a document was not read, or was guessed, as its record, its job and the API say it."""

from enum import StrEnum

from shared.contracts.wire import Wire

__all__ = ["DocumentWarning", "WarningKind"]


class WarningKind(StrEnum):
    """The kinds of today; readers accept others."""

    PAGES_WITHOUT_TEXT = "pages-without-text"
    UNREADABLE_PART = "unreadable-part"
    SKIPPED_PART = "skipped-part"
    BINARY_DATA = "binary-data"
    CUT_OFF = "cut-off"
    GUESSED_TABLE = "guessed-table"


class DocumentWarning(Wire):
    """`detail` is a sentence for people."""

    kind: str
    detail: str
