"""Encoded binary data within text: pictures, keys and files as base64, hexadecimal digits or uuencode."""

from __future__ import annotations

import re

__all__ = ["without_binary"]

_SHORTEST = 256
_MARK = "\N{HORIZONTAL ELLIPSIS}"
_DATA_URI = re.compile(r"data:[\w.+/-]{0,100}(?:;[\w.+=-]{1,100}){0,5};base64,[A-Za-z0-9+/=_%-]*")
_RUN = re.compile(rf"[A-Za-z0-9+/=_-]{{{_SHORTEST},}}+")
_LINE = re.compile(
    r"(?:^[ \t>]{0,16}[A-Za-z0-9+/]{60,76}[ \t]{0,8}\n){4,}+[ \t>]{0,16}[A-Za-z0-9+/]*={0,2}", re.MULTILINE
)
_UUENCODED = re.compile(r"^begin [0-7]{3,4} [^\n]{1,200}\n(?:M[ -`]{60}\n)+(?:[ -`]{0,61}\n){0,3}end$", re.MULTILINE)
_CLASSES = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "A" * 26 + "a" * 26 + "0" * 10
)
_CHANGES = re.compile(r"(?=Aa|aA|A0|0A|a0|0a)")
_SAMPLE = 512
_LEAST_CHANGES = 0.39


def without_binary(text: str) -> tuple[str, int]:
    """The text with each run of encoded data as an ellipsis, and how many there were.

    A run is a base64 data URI, at least 256 characters without a space that mix capitals, small letters and digits as
    words do not, at least four lines of 60 to 76 such characters, or a uuencoded file.
    """
    found = 0

    def replaced(run: re.Match[str]) -> str:
        nonlocal found
        if not _is_encoded(run[0]):
            return run[0]
        found += 1
        return _MARK

    def dropped(_: re.Match[str]) -> str:
        nonlocal found
        found += 1
        return _MARK

    if ";base64," in text:
        text = _DATA_URI.sub(dropped, text)
    if "\nM" in text:
        text = _UUENCODED.sub(dropped, text)
    text = _RUN.sub(replaced, text)
    if len(text) > _SHORTEST:
        text = _LINE.sub(replaced, text)
    return text, found


def _is_encoded(run: str) -> bool:
    """Whether capitals, small letters and digits change as in random data: words seldom do so within themselves.

    Of base64, nearly two thirds of neighbours differ in kind; of hexadecimal digits nearly half. Zeros at the begin of
    a file look otherwise, so its middle and its end count too.
    """
    middle = max(0, len(run) - _SAMPLE) // 2
    samples = {run[:_SAMPLE], run[middle : middle + _SAMPLE], run[-_SAMPLE:]}
    return any(map(_is_mixed, samples))


def _is_mixed(sample: str) -> bool:
    kinds = "".join(sample.split()).translate(_CLASSES)
    return len(_CHANGES.findall(kinds)) > _LEAST_CHANGES * len(kinds)
