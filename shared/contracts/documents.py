"""Documents as services speak of them: a record, its id and its name."""

import hashlib
from typing import Final

from shared.contracts.envelope import Scalar
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.wire import Wire

__all__ = ["Document", "check_document_name", "document_id"]

LONGEST_DOCUMENT_NAME: Final = 512


class Document(Wire):
    """A document as it stands in one table. `revision` is the sequence of the job that wrote it; a copy in another
    version of the collection has the revision of what it is a copy of.

    `original` names the bytes that it was made from, "" where they are not kept. A document that came from a folder
    or a bucket has that as its `origin`, and a `stamp` that changes whenever the file there does. `tenant` and the id
    of its `collection` say whose the record is; "" in one that an earlier version has written.
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


def document_id(name: str) -> str:
    """A document is known by its name; the id is a form of it that fits into URLs and keys."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def check_document_name(name: str) -> str:
    """A document's name in its one form: `/` between parts. Raises Problem INVALID_NAME.

    Names are labels, never opened as paths; those that try to be paths out of a folder are refused all the same.
    """
    name = name.replace("\\", "/")
    parts = name.split("/")
    if not name.strip() or len(name.encode()) > LONGEST_DOCUMENT_NAME:
        reason = f"must have 1 to {LONGEST_DOCUMENT_NAME} bytes"
    elif any(part in ("", ".", "..") for part in parts):
        reason = "must be a relative path without empty, '.' or '..' parts"
    elif any(not c.isprintable() for c in name):
        reason = "must have printable characters only"
    else:
        return name
    raise Problem(ProblemType.INVALID_NAME, f"The document name {name[:80]!r} {reason}.")
