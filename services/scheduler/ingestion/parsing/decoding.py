"""Bytes of unknown encoding become text."""

from __future__ import annotations

import codecs
import re

import charset_normalizer

from shared.contracts.problems import Problem, ProblemType

__all__ = ["decode", "is_binary"]

_SAMPLE_BYTES = 32_768
_BOMS = (  # UTF-32 first: its little-endian mark starts with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
_MAX_CONTROL_SHARE = 0.02  # random or compressed bytes have a tenth
_WESTERN = "cp1252"
_LATIN = frozenset(
    ("cp1250", "cp1252", "cp1254", "cp1257", "iso8859_2", "iso8859_4", "iso8859_9", "iso8859_10", "iso8859_13")
)
_ACCENTED = re.compile(rb"(?<=[A-Za-z])[\x80-\xff]|[\x80-\xff](?=[A-Za-z])")
_HIGH = re.compile(rb"[\x80-\xff]")


def is_binary(data: bytes) -> bool:
    """Whether the bytes are clearly not text: NUL characters, or more control characters than text has."""
    if _marked(data) or _unmarked_utf16(data):
        return False
    sample = data[:_SAMPLE_BYTES]
    controls = len(sample) - len(sample.translate(None, delete=_CONTROLS))
    return b"\0" in sample or controls > len(sample) * _MAX_CONTROL_SHARE


def decode(data: bytes, *, declared: str | None = None) -> str:
    """Text by its byte order mark, else as UTF-8, else as `declared`, else by the most likely encoding.

    UTF-8 with a few damaged bytes stays UTF-8, with U+FFFD where the damage is. Raises Problem
    UNSUPPORTED_DOCUMENT for bytes that are not text.
    """
    encoding = _marked(data) or _unmarked_utf16(data)
    if encoding:
        return data.decode(encoding, errors="replace")
    if is_binary(data):
        raise Problem(ProblemType.UNSUPPORTED_DOCUMENT, "The document is binary, not text.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if declared and (text := _try(data, declared)) is not None:
        return text
    text = data.decode("utf-8", errors="replace")
    if _is_damaged_utf8(text):
        return text
    return data.decode(_guess(data), errors="replace")


def _marked(data: bytes) -> str | None:
    return next((encoding for mark, encoding in _BOMS if data.startswith(mark)), None)


def _unmarked_utf16(data: bytes) -> str | None:
    """UTF-16 without a mark shows as NULs in every second place of mostly Latin text."""
    sample = data[: _SAMPLE_BYTES & ~1]
    half = len(sample) // 2
    if half < 4 or len(data) % 2 or b"\0" not in sample:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > 0.7 * half and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd == 0 else None


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _is_damaged_utf8(text: str) -> bool:
    damaged = text.count("\ufffd")
    foreign = len(text) - len(text.encode("ascii", errors="ignore")) - damaged
    return foreign > 10 * damaged


def _guess(data: bytes) -> str:
    """The encoding of the text around the first byte that is not ASCII.

    Windows-1252 wins a tie: on short text many 8-bit encodings are equally coherent, and it is by far the
    most common. It also wins over encodings of other scripts where most of the characters in question stand
    next to ASCII letters, as accented ones do.
    """
    first = next((index for index in range(0, len(data), 4096) if not data[index : index + 4096].isascii()), 0)
    sample = data[max(0, first - 4096) : first + _SAMPLE_BYTES]
    matches = charset_normalizer.from_bytes(sample)
    best = matches.best()
    if best is None:
        return _WESTERN
    tied = {match.encoding for match in matches if match.chaos <= best.chaos}
    accented = 2 * len(_ACCENTED.findall(sample)) > len(_HIGH.findall(sample))
    if _WESTERN in tied or (accented and best.encoding not in _LATIN):
        return _WESTERN
    return best.encoding
