"""Text that every later step can rely on."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["clean"]

_LINE_END = re.compile("\r\n?|\x85|\u2028")
_PARAGRAPH_END = re.compile("[\f\v\u2029]")
# C0 and C1 controls other than tab and newline, soft hyphens, the byte order mark, surrogates and the non-characters: a
# database, a JSON document or a terminal chokes on some of them, and none of them is text.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\ufeff\ud800-\udfff\ufffe\uffff]+")
_TRAILING = re.compile(r"(?<![ \t])[ \t]++(?=\n)")  # possessive: linear on long runs of blanks
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """`text` in Unicode NFC with "\\n" line ends, without control characters, trailing blanks and edges.

    A form feed ends a paragraph; more than one blank line becomes one. Everything else stays as it is.
    """
    # Most texts need little of this, and looking for one character is far faster than a pattern.
    if any(end in text for end in "\r\x85\u2028"):
        text = _LINE_END.sub("\n", text)
    if any(end in text for end in "\f\v\u2029"):
        text = _PARAGRAPH_END.sub("\n\n", text)
    text = _UNWANTED.sub("", text)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if " \n" in text or "\t\n" in text:
        text = _TRAILING.sub("", text)
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n").rstrip() if text.strip() else ""
