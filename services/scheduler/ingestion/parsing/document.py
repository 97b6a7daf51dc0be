"""What goes into a parser and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.contracts.warnings import DocumentWarning

if TYPE_CHECKING:
    from services.scheduler.ingestion.parsing.parts import Parts

__all__ = ["Format", "Metadata", "ParsedDocument", "Section", "Source"]

Metadata = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A run of text that belongs together.

    `heading` is the path of headings that lead here, outermost first, and is not repeated in `text`.
    Paragraphs are separated by a blank line. `page` counts from 1, where the format has pages.
    """

    text: str
    heading: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """A document as text: at least one section, none of them blank.

    `metadata` holds what the document says about itself: `title`, `author`, `language` (of source code)
    and `pages`, each only where it is known. `warnings` say what of it is not in the sections, or guessed.
    """

    media_type: str
    sections: tuple[Section, ...]
    metadata: Metadata = field(default_factory=dict)
    warnings: tuple[DocumentWarning, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The input of a parser. `name` is a label from outside: no parser ever opens it as a path.

    `parts` reads the documents within this one.
    """

    name: str
    data: bytes
    media_type: str
    parts: Parts
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one kind of document is recognised and which parser reads it.

    `parser` names a function `(Source) -> ParsedDocument` as "module:function"; it is imported when the first
    such document arrives, so that a worker only pays for the formats it meets. A parser raises Problem where
    it knows better; any other exception is reported as a broken document.

    A document whose name and media type say nothing is recognised by its first bytes (`magic`), or, where it is a zip
    archive, by its member `mimetype` or by the folder `zip_folder` in it.
    """

    media_type: str
    parser: str
    suffixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    magic: tuple[bytes, ...] = ()
    zip_folder: str = ""
    language: str = ""
