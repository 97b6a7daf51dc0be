# ruff: noqa: RUF001  (letters that look like others are the subject of this module)
"""One spelling for characters that readers take for the same: width, case, accents, hyphens, invisible characters."""

import unicodedata
from typing import Final

import regex

__all__ = ["compose", "fold", "normalize", "strip_accents"]

_HYPHENS: Final = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"), "-")
_APOSTROPHES: Final = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u2032\uff07`\u00b4"), "'")
_SAME: Final = _HYPHENS | _APOSTROPHES

_INVISIBLE: Final = regex.compile(r"[\p{Cf}\u034f\u115f\u1160\u17b4\u17b5\ufe00-\ufe0f]")
"""Soft hyphens, joiners, marks of direction, selectors of variants."""

_ACCENT: Final = regex.compile(
    r"[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    r"\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"
)
"""Marks that people leave out: of Latin, Greek, Cyrillic, Hebrew and Arabic. Vowel signs of other scripts stay."""

_DOTLESS: Final = str.maketrans({"ı": "i", "ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "ς": "σ"})
"""Letters that Unicode does not take apart."""


def compose(text: str) -> str:
    """The text with one width and one form of each letter (NFKC), without invisible characters: what models read."""
    return text if text.isascii() else unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))


def normalize(text: str) -> str:
    """The text composed, with one hyphen and one apostrophe; case and accents stay."""
    if text.isascii():
        return text.translate(_APOSTROPHES)
    return compose(text.translate(_SAME)).translate(_SAME)


def strip_accents(text: str) -> str:
    """The text without the marks that people leave out. Idempotent."""
    if text.isascii():
        return text
    parted = unicodedata.normalize("NFD", text.translate(_DOTLESS))
    return unicodedata.normalize("NFC", _ACCENT.sub("", parted))


def fold(text: str) -> str:
    """The form in which two spellings of one word are equal."""
    return strip_accents(normalize(text).casefold())
