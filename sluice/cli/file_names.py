"""Files' paths as documents' names, and back."""

import os
import re

__all__ = ["path_of", "spelled"]

_SPELLED = re.compile('[\x00-\x1f\x7f-\x9f"\\\\\u2028\u2029\ufdd0-\ufdef\ufffe\uffff\udc80-\udcff]|⟨(?=[0-9A-F]{2}⟩)')
_BYTE = re.compile("⟨([0-9A-F]{2})⟩".encode())


def spelled(path: str) -> str:
    """The name of a document with this path. Bytes that are not UTF-8, control characters, line separators, `"` and
    `\\` are written as bytes like `⟨E9⟩`; so is a `⟨` that would read as one. The server spells folders so too."""
    return _SPELLED.sub(lambda found: "".join(f"⟨{byte:02X}⟩" for byte in _bytes(found[0])), path)


def path_of(name: str) -> str:
    """The path that a name was spelled from."""
    return os.fsdecode(_BYTE.sub(lambda found: bytes([int(found[1], 16)]), _bytes(name)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
