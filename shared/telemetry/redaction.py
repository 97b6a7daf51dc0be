"""Passwords and keys out of what people read: settings, logs, status."""

import re
from typing import Final

__all__ = ["redacted"]

MASK: Final = "***"

_IN_URL: Final = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,31}://)[^\s/?#\"'<>]{1,1024}@")
"""What stands before the host of a URL: a user, a password, or a token without a user."""

_NAMED: Final = re.compile(
    r"(?P<name>(?:password|passwd|secret|token(?!s|iz)|credential|(?:access|account|api|sas)[_-]?key)[A-Za-z0-9_-]{0,32}"
    r"[\"']?\s{0,4}[=:]\s{0,4})(?P<quote>[\"']?)[^\s\"',&}]{1,4096}",
    re.IGNORECASE,
)
"""A member, a parameter or an option whose name says that its value is secret."""


def redacted(text: str, *, named: bool = False) -> str:
    """The text without what stands before the host of any URL; with `named` also without the values of secrets.

    Linear in the length of the text.
    """
    if "://" in text:
        text = _IN_URL.sub(rf"\g<scheme>{MASK}@", text)
    return _NAMED.sub(rf"\g<name>\g<quote>{MASK}", text) if named else text
