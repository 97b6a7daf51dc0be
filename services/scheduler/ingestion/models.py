"""The types of a document on its way into the index of one version of a collection."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.scheduler.ingestion.reader.reader import ChunkedDocument
from shared.contracts.collections import Collection, CollectionVersion, Owner
from shared.contracts.documents import Document, document_id
from shared.contracts.envelope import Passage, Scalar
from shared.contracts.indexing import IndexedDocumentRef
from shared.contracts.principals import check_allowed, normalized
from shared.contracts.warnings import DocumentWarning

__all__ = [
    "IncomingDocument",
    "MovedOnError",
    "Outcome",
    "Permissions",
    "Target",
    "Written",
    "is_same",
    "passages_of",
    "reference_to",
]


class MovedOnError(Exception):
    """The version is not to be written to any more: another one has become live, or it is on its way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where documents go: a version of a collection, and the job that brings them."""

    collection: Collection
    version: CollectionVersion
    job: str

    @property
    def tenant(self) -> str:
        return self.collection.tenant

    @property
    def owner(self) -> Owner:
        return self.collection.owner

    @property
    def table(self) -> str:
        return self.version.table


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """The principals that may see a document, None for everybody, as the job of this revision says."""

    allowed: tuple[str, ...] | None = None
    revision: int = -1

    @classmethod
    def given(cls, allowed: Sequence[str] | None, revision: int) -> "Permissions | None":
        """What is said with a document that comes in; None for nothing. Raises Problem INVALID_REQUEST."""
        return None if allowed is None else cls(allowed=normalized(check_allowed(allowed)), revision=revision)

    @classmethod
    def of(cls, record: Document) -> "Permissions":
        return cls(allowed=record.allowed, revision=record.allowed_revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingDocument:
    """A document on its way in. Without a `sha256` it is known only once it has been loaded.

    `load` returns its bytes, or raises Problem; `size` is how many there should be. `revision` and `job` are those of
    the change that it comes with, and `original` names its bytes where they are kept already. `permissions`
    say who may see it; None where nothing is said, and it keeps what it has.
    """

    name: str
    load: Callable[[], Awaitable[bytes]]
    size: int
    revision: int
    job: str
    sha256: str | None = None
    media_type: str | None = None
    metadata: dict[str, Scalar] = field(default_factory=dict)
    origin: str = ""
    stamp: str = ""
    original: str = ""
    permissions: Permissions | None = None

    @property
    def id(self) -> str:
        return document_id(self.name)


class Outcome(StrEnum):
    """What became of a document: written, there already as it is, or left alone because a later job changed it."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """`job` is the one that brought what is in the index now, and `warnings` say what of it is not."""

    outcome: Outcome
    chunks: int
    job: str
    warnings: tuple[DocumentWarning, ...] = ()


def is_same(known: Document, document: IncomingDocument, fingerprint: str, sha256: str | None) -> bool:
    """Whether a document is in the index already; by its stamp where nothing else is known before it is loaded."""
    if (known.metadata, known.fingerprint) != (document.metadata, fingerprint):
        return False
    if sha256 is None:
        return bool(document.stamp) and (known.origin, known.stamp) == (document.origin, document.stamp)
    return known.sha256 == sha256


def reference_to(record: Document) -> IndexedDocumentRef:
    return IndexedDocumentRef(
        id=record.id,
        name=record.name,
        version=record.sha256,
        revision=record.revision,
        allowed=record.allowed,
        allowed_revision=record.allowed_revision,
    )


def passages_of(document: IncomingDocument, read: ChunkedDocument) -> tuple[Passage, ...]:
    """The chunks of a document as passages without vectors. What the job says of it goes before what is in it."""
    return tuple(
        Passage(
            id=f"{document.id}:{chunk.position}",
            document_id=document.id,
            document=document.name,
            position=chunk.position,
            text=chunk.text,
            section=chunk.section,
            metadata={**read.metadata, **({"page": chunk.page} if chunk.page else {}), **document.metadata},
        )
        for chunk in read.chunks
    )
