"""A text into words, identifiers, and runs of scripts that do not part words with spaces."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

import regex

from shared.analysis.folding import normalize, strip_accents

__all__ = ["Segment", "SegmentKind", "segments"]

_UNSPACED: Final = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u30fc"
)
_TEMPLATE: Final = r"{letter}+(?:(?:[-_./:@\\+#&]{{1,3}}|(?<=\d),(?=\d)){letter}+)*(?:\+\+|#(?!{letter}))?"
_ASCII: Final = re.compile(_TEMPLATE.format(letter="[A-Za-z0-9]"))
_SEGMENT: Final = regex.compile(
    rf"[{_UNSPACED}]([{_UNSPACED}\p{{M}}]*)|" + _TEMPLATE.format(letter=rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]"),
    regex.VERSION1,
)
_GROUPED: Final = regex.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CONNECTOR: Final = regex.compile(r"[-_./:@\\+#&,]+")
_LETTERS: Final = regex.compile(r"[\p{L}\p{M}]+")
_OUTER: Final = re.compile(r"[./:@\\&,]+")
_PIECE: Final = regex.compile(r"\p{Lu}+(?=\p{Lu}\p{Ll})|\p{Lu}?[\p{Ll}\p{Lo}\p{Lm}\p{M}]+|\p{Lu}+|\p{N}+|.")
_CAMEL: Final = regex.compile(r"\p{Ll}\p{Lu}|\p{Lu}{2}\p{Ll}{2}")

MOST_PIECES: Final = 4
"""What has more changes between letters and digits between two connectors is a digest: its pieces mean nothing."""

MOST_PARTS: Final = 12
"""What has more of them is found as a whole only."""

LONGEST: Final = 64
"""Characters of a form. A longer one keeps so many, with a hash of the whole, so that it is still found exactly."""


class SegmentKind(StrEnum):
    WORD = "word"
    """Letters, or a number."""
    COMPOUND = "compound"
    """Words with hyphens."""
    IDENTIFIER = "identifier"
    """A name that is one thing: a part number, an error code, a version, a path, a class, a digest."""
    UNSPACED = "unspaced"
    """A run of a script that does not part its words."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`text` is as it is written but for width and invisible characters. `whole` is the one spelling of a compound or
    an identifier, the same for `ERR-4032`, `err 4032` written as one word, and `Err_4032`. `parts` are its words and
    numbers, in order. Both are in lower case; `whole` is without accents."""

    text: str
    kind: SegmentKind
    whole: str
    parts: tuple[str, ...] = ()


def segments(text: str) -> Iterator[Segment]:
    """The segments in their order. Punctuation between them is left out."""
    plain = normalize(text).replace("'", " ")
    if plain.isascii():
        yield from map(_segment, _ASCII.findall(plain))
        return
    for found in _SEGMENT.finditer(plain):
        yield _segment(found[0]) if found[1] is None else _unspaced(found[0])


def _unspaced(run: str) -> Segment:
    return Segment(run, SegmentKind.UNSPACED, strip_accents(run.casefold()))


@lru_cache(maxsize=65_536)
def _segment(text: str) -> Segment:
    if text.isdecimal() or _is_word(text):
        return Segment(text, SegmentKind.WORD, text.casefold())
    if _GROUPED.fullmatch(text):
        return Segment(text, SegmentKind.WORD, text.replace(",", ""))
    suffix = text[-2:] if text.endswith("++") else text[-1:] if text.endswith("#") else ""
    body = text.removesuffix(suffix)
    chunks = _CONNECTOR.split(body)
    pieces = [piece for chunk in chunks for piece in _pieces(chunk)]
    whole = strip_accents(_joined(pieces) + suffix)
    hyphened = all(map(_is_word, chunks)) and not suffix
    plain = hyphened and set(_CONNECTOR.findall(body)) <= {"-", "/", "&"}
    kind = SegmentKind.COMPOUND if plain else SegmentKind.IDENTIFIER
    parts = _parts(pieces, body) if 1 < len(pieces) <= MOST_PARTS else ()
    return Segment(text, kind, whole, tuple(part for part in parts if part != whole))


def _is_word(text: str) -> bool:
    return bool(_LETTERS.fullmatch(text)) and not _CAMEL.search(text)


def _pieces(chunk: str) -> list[str]:
    """The words and numbers of what is between two connectors; the whole where it has too many to mean something."""
    found = _PIECE.findall(chunk)
    return [piece.casefold() for piece in found] if len(found) <= MOST_PIECES else [chunk.casefold()]


def _joined(pieces: list[str]) -> str:
    """One spelling however the pieces were connected; numbers stay apart, so that 2.14.1 is not 21.41."""
    joined = ""
    for piece in pieces:
        joined += "." + piece if joined[-1:].isdecimal() and piece[:1].isdecimal() else piece
    return joined


def _parts(pieces: list[str], body: str) -> Iterator[str]:
    """What of an identifier people search for: names within it, its words, its numbers, its version and how that
    begins."""
    for name in _OUTER.split(body):
        inner = [piece for chunk in _CONNECTOR.split(name) for piece in _pieces(chunk)]
        if len(inner) > 1:
            yield strip_accents(_joined(inner))
    for number in regex.findall(r"\d+(?:\.\d+)+", body):
        if number != body:
            yield number
        if number.count(".") > 1:
            yield ".".join(number.split(".")[:2])
    dotted = set(regex.findall(r"(?<=\d\.)\d+|\d+(?=\.\d)", body))
    for piece in pieces:
        if (len(piece) > 1 and piece not in dotted) or (piece.isdecimal() and "." not in body):
            yield piece
