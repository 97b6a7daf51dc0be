"""Documents as services speak of them: a record, its id and its name."""

import hashlib
import re
import unicodedata
from typing import Final, Self

from shared.contracts.envelope import Scalar
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.warnings import DocumentWarning
from shared.contracts.wire import Wire

__all__ = ["Document", "check_document_name", "document_id", "spell_bytes", "spell_name"]

LONGEST_DOCUMENT_NAME: Final = 512

_NO_NAMES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_SURROGATES: Final = re.compile("[\udc80-\udcff]+")
_SPELLED: Final = re.compile(
    '[\x00-\x1f\x7f-\x9f"\\\\\u2028\u2029\ufdd0-\ufdef\ufffe\uffff\udc80-\udcff]|⟨(?=[0-9A-F]{2}⟩)'
)


class Document(Wire):
    """A document as it stands in one table. `revision` is the sequence of the job that wrote it; a copy in another
    version of the collection has the revision of what it is a copy of.

    `original` names the bytes that it was made from, "" where they are not kept. A document that came from a folder
    or a bucket has that as its `origin`, and a `stamp` that changes whenever the file there does. `tenant` and the id
    of its `collection` say whose the record is; "" in one that an earlier version has written. `warnings` say what of
    it is not in the index. `allowed` are the principals that may see it, None for everybody, and `allowed_revision` is
    the sequence of the job that said so.
    """

    id: str
    name: str
    sha256: str
    bytes: int
    chunks: int
    media_type: str = ""
    metadata: dict[str, Scalar] = {}
    indexed_at: float
    revision: int
    job: str
    fingerprint: str = ""
    original: str = ""
    origin: str = ""
    stamp: str = ""
    tenant: str = ""
    collection: str = ""
    warnings: tuple[DocumentWarning, ...] = ()
    allowed: tuple[str, ...] | None = None
    allowed_revision: int = -1

    def permitting(self, allowed: tuple[str, ...] | None, revision: int) -> Self:
        """With this list, unless a later one is there already."""
        if revision < self.allowed_revision:
            return self
        return self.model_copy(update={"allowed": allowed, "allowed_revision": revision})


def spell_name(name: str) -> str:
    """A file's path as a document's name: what no name may have is written as its bytes, each as `⟨E9⟩`.

    That are bytes that are not UTF-8 (surrogates in `name`, as the file system encoding of Python has them), control
    characters, line separators, `"` and `\\`. So is a `⟨` that would read as such a byte: no two paths have one name.
    """
    return _SPELLED.sub(lambda found: "".join(f"⟨{byte:02X}⟩" for byte in _bytes(found[0])), name)


def spell_bytes(name: str) -> str:
    """A name with only its bytes that are not UTF-8 so written: for names from senders that have written the rest."""
    return _SURROGATES.sub(lambda found: "".join(f"⟨{byte:02X}⟩" for byte in _bytes(found[0])), name)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_no_character(character: str) -> bool:
    code = ord(character)
    return unicodedata.category(character) in _NO_NAMES or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def document_id(name: str) -> str:
    """A document is known by its name; the id is a form of it that fits into URLs and keys."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def check_document_name(name: str) -> str:
    """A document's name in its one form: `/` between parts. Raises Problem INVALID_NAME.

    Names are labels, never opened as paths; those that try to be paths out of a folder are refused all the same.
    """
    name = name.replace("\\", "/")
    parts = name.split("/")
    if not name.strip() or len(name.encode("utf-8", "surrogatepass")) > LONGEST_DOCUMENT_NAME:
        reason = f"must have 1 to {LONGEST_DOCUMENT_NAME} bytes"
    elif any(part in ("", ".", "..") for part in parts):
        reason = "must be a relative path without empty, '.' or '..' parts"
    elif any(map(_is_no_character, name)):
        reason = "must be text without control characters; write them as the docs say"
    else:
        return name
    raise Problem(ProblemType.INVALID_NAME, f"The document name {name[:80]!r} {reason}.")
