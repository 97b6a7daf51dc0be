"""The built-in formats, one entry each: how it is recognised and which parser reads it."""

from __future__ import annotations

from services.scheduler.ingestion.parsing.document import Format
from services.scheduler.ingestion.parsing.languages import LANGUAGES

__all__ = ["BUILT_IN", "TEXT"]

_HERE = __package__
_OOXML = "application/vnd.openxmlformats-officedocument."
TEXT = Format(
    media_type="text/plain",
    parser=f"{_HERE}.plain:parse",
    suffixes=(".txt", ".text", ".log", ".adoc", ".org", ".tex", ".srt", ".vtt"),
)
PDF = Format(
    media_type="application/pdf",
    parser=f"{_HERE}.pdf:parse",
    suffixes=(".pdf",),
    magic=(b"%PDF-",),
    aliases=("application/x-pdf",),
)
DOCX = Format(
    media_type=f"{_OOXML}wordprocessingml.document",
    parser=f"{_HERE}.word:parse",
    suffixes=(".docx", ".docm", ".dotx"),
    zip_folder="word",
)
PPTX = Format(
    media_type=f"{_OOXML}presentationml.presentation",
    parser=f"{_HERE}.slides:parse",
    suffixes=(".pptx", ".pptm", ".ppsx"),
    zip_folder="ppt",
)
HTML = Format(
    media_type="text/html",
    parser=f"{_HERE}.html:parse",
    suffixes=(".html", ".htm", ".xhtml"),
    magic=(b"<!doctype html", b"<html"),
    aliases=("application/xhtml+xml",),
)
_ODF = "application/vnd.oasis.opendocument."
BUILT_IN: tuple[Format, ...] = (
    TEXT,
    PDF,
    DOCX,
    PPTX,
    HTML,
    Format(
        media_type=f"{_OOXML}spreadsheetml.sheet",
        parser=f"{_HERE}.spreadsheet:parse",
        suffixes=(".xlsx", ".xlsm", ".xlsb", ".xls"),
        aliases=("application/vnd.ms-excel",),
        zip_folder="xl",
    ),
    Format(media_type=f"{_ODF}spreadsheet", parser=f"{_HERE}.spreadsheet:parse", suffixes=(".ods",)),
    Format(media_type=f"{_ODF}text", parser=f"{_HERE}.opendocument:parse", suffixes=(".odt", ".ott")),
    Format(media_type=f"{_ODF}presentation", parser=f"{_HERE}.opendocument:parse", suffixes=(".odp",)),
    Format(media_type="application/epub+zip", parser=f"{_HERE}.book:parse", suffixes=(".epub",)),
    Format(
        media_type="application/rtf",
        parser=f"{_HERE}.richtext:parse",
        suffixes=(".rtf",),
        aliases=("text/rtf",),
        magic=(b"{\\rtf",),
    ),
    Format(
        media_type="message/rfc822",
        parser=f"{_HERE}.mail:parse",
        suffixes=(".eml", ".mht", ".mhtml"),
        aliases=("multipart/related",),
    ),
    Format(media_type="application/vnd.ms-outlook", parser=f"{_HERE}.outlook:parse", suffixes=(".msg",)),
    Format(
        media_type="application/x-ipynb+json",
        parser=f"{_HERE}.notebook:parse",
        suffixes=(".ipynb",),
    ),
    Format(
        media_type="application/zip",
        parser=f"{_HERE}.zip:parse",
        suffixes=(".zip",),
        aliases=("application/x-zip-compressed",),
        magic=(b"PK\x03\x04",),
    ),
    Format(
        media_type="text/markdown",
        parser=f"{_HERE}.markdown:parse",
        suffixes=(".md", ".markdown", ".mdx"),
        aliases=("text/x-markdown",),
    ),
    Format(
        media_type="text/x-rst",
        parser=f"{_HERE}.rst:parse",
        suffixes=(".rst", ".rest"),
        aliases=("text/prs.fallenstein.rst",),
    ),
    Format(media_type="text/csv", parser=f"{_HERE}.table:parse_csv", suffixes=(".csv",)),
    Format(media_type="text/tab-separated-values", parser=f"{_HERE}.table:parse_tsv", suffixes=(".tsv",)),
    Format(media_type="application/json", parser=f"{_HERE}.records:parse_json", suffixes=(".json",)),
    Format(
        media_type="application/jsonl",
        parser=f"{_HERE}.records:parse_jsonl",
        suffixes=(".jsonl", ".ndjson"),
        aliases=("application/x-ndjson", "application/x-jsonlines"),
    ),
    *(
        Format(
            media_type=language.media_type,
            parser=f"{_HERE}.plain:parse",
            suffixes=language.suffixes,
            names=language.names,
            language=language.name,
        )
        for language in LANGUAGES
    ),
)
