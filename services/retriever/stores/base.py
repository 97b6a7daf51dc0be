"""The store protocol: what the retriever needs of an index, whichever keeps it.

`tests/integration/retriever/stores/test_store_contract.py` is the conformance suite; every store passes it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.retriever.ranking.ranker import RankOptions
from shared.contracts.collections import Owner
from shared.contracts.filters import Filter, Scalar
from shared.contracts.problems import Problem
from shared.contracts.retrieval import SearchMode

__all__ = [
    "Chunk",
    "Copy",
    "Hit",
    "Hits",
    "IndexedDocument",
    "Permissions",
    "Place",
    "Readers",
    "Replaced",
    "Store",
    "StoredChunk",
    "Vector",
    "check_collection",
    "searched_vector",
    "unit",
]

Vector: TypeAlias = NDArray[np.float32]
"""One dimension, finite components; its length need not be 1."""

Readers: TypeAlias = frozenset[str] | None
"""The principals that a reader carries; None for one who sees every document."""

DEFAULT_OPTIONS = RankOptions()

_COLLECTION = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a document as it is written. Metadata is as `filters.validate_metadata` returns it.

    `section` numbers the sections of the document from 0, None where they are not known.
    """

    position: int
    text: str
    vector: Vector
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    section: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedDocument:
    """A document with all its chunks, their positions distinct; without chunks it is a deletion.

    `version` is the hash of the content. `revision` grows with every change that is submitted for the
    document, deletions included, and decides which of two changes is the later one.

    `allowed` are the principals that may see it, None for everybody. `allowed_revision` says which change that comes
    from: a later list that is stored already stays, whatever the document's revision.
    """

    id: str
    name: str
    version: str
    revision: int
    chunks: Sequence[Chunk] = ()
    allowed: Sequence[str] | None = None
    allowed_revision: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Who may see a document: the principals that it lists, None for everybody. The greatest revision counts."""

    document_id: str
    allowed: Sequence[str] | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Where else the text of a hit is, or almost the same text."""

    document_id: str
    document: str
    position: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk is."""

    document_id: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A chunk as it was read by its place. `section` is None where it was written without."""

    place: Place
    revision: int
    text: str
    section: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk that a search found. `id` is the same for the same position of the same document.

    `score` is 0 to 1 and can be compared between questions; `similarity` is the cosine, -1 to 1, None for a search
    without a vector; `coverage` is the share of the question's terms that the chunk holds, by their rarity. The ranks
    count from 1 and say where the chunk stood in each ranking; None where it was not in it.
    """

    id: str
    document_id: str
    document: str
    version: str
    revision: int
    position: int
    text: str
    metadata: Mapping[str, Scalar]
    score: float
    similarity: float | None = None
    coverage: float = 0.0
    vector_rank: int | None = None
    text_rank: int | None = None
    copies: Sequence[Copy] = ()
    section: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What became of the documents of one `replace`: each id is in exactly one of the three."""

    replaced: frozenset[str] = frozenset()
    """Now stored as given, or deleted as asked."""
    superseded: frozenset[str] = frozenset()
    """Left alone: a later revision is stored already."""
    refused: Mapping[str, Problem] = field(default_factory=dict)
    """Left alone: the metadata does not fit the collection. One document never holds back the others."""
    absent: bool = False
    """Whether there is no collection, so that the deletions are not remembered."""


class Hits(list[Hit]):
    """What a search found. `absent` are the identifiers in the text that no chunk of the collection has."""

    def __init__(self, hits: Iterable[Hit] = (), absent: tuple[str, ...] = ()) -> None:
        super().__init__(hits)
        self.absent = absent


class Store(Protocol):
    """Collections of chunks that can be replaced by document and searched.

    A collection is an opaque id of 1 to 64 characters a-z, 0-9, `_`, `-` (otherwise ValueError). There is no
    step to create one: an absent collection searches as empty, and the first `replace` creates it with the
    dimension of the vectors it brings.

    Ownership: the `replace` that creates a collection writes down its `owner`. Every later call that names an owner
    raises Problem(COLLECTION_NOT_FOUND) where the collection is somebody else's, before anything is read or written.
    A call without an owner, and a collection that was made without one, is not checked.

    Permissions: a search, a reading or a count for `readers` is as if the collection had only the documents that these
    may see: what others there are tells nothing of itself, be it by a hit, a copy, a place, a number, a score or an
    absent identifier. On disk, statistics that smooth scores may be some minutes old.

    Concurrency: every method may be called at any time beside every other, from several tasks and from several
    processes on the same storage. Readers see only what was committed: one search or count sees each document
    either before or after a `replace`, never in between. A process sees its own commits at once, those of
    others within about a second.

    Idempotency: `replace`, `drop` and `maintain` may be repeated; a call that failed or was cancelled has
    either committed or changed nothing that a reader sees, and repeating it is the repair.
    """

    async def replace(
        self,
        collection: str,
        documents: Sequence[IndexedDocument],
        *,
        owner: Owner | None = None,
        dimension: int | None = None,
    ) -> Replaced:
        """Replace all chunks of each document by the given ones, all documents in one commit.

        A document of which a greater revision is stored is left alone; a deletion is remembered as a revision
        for at least a day. Of several documents with one id the last of the greatest revision counts.

        Deletions alone leave an absent collection absent, and then are not remembered. With the `dimension` of its
        vectors they create it.

        Raises Problem(CONFLICT) where a vector has another dimension than the collection, before anything is
        written; ValueError for vectors that are not finite and for positions that repeat or are negative.
        """

    async def permit(self, collection: str, documents: Sequence[Permissions], *, owner: Owner | None = None) -> None:
        """Change who may see documents and nothing else, those with one list and revision in one commit.

        A document of which a later list is stored is left alone, and so is one that is not there.
        """

    async def search(
        self,
        collection: str,
        text: str,
        vector: Vector | None,
        *,
        top_k: int,
        filter: Filter | None = None,  # noqa: A002  (the word of the API)
        options: RankOptions = DEFAULT_OPTIONS,
        owner: Owner | None = None,
        readers: Readers = None,
    ) -> Hits:
        """At most `top_k` chunks that match the filter, best first, ranked by `services.retriever.ranking.ranker`.

        The text may be anything; with SearchMode.TEXT it finds nothing where no word is left of it. The vector may be
        None only with SearchMode.TEXT (otherwise ValueError). Of more than about a hundred passages that a search
        finds by meaning or by words, the ranking is over the first hundred of each.

        Raises Problem(INVALID_FILTER) for a field that the collection does not know or a value of the wrong
        type, Problem(CONFLICT) for a vector of another dimension.
        """

    async def read(
        self, collection: str, places: Collection[Place], *, owner: Owner | None = None, readers: Readers = None
    ) -> Mapping[Place, StoredChunk]:
        """The chunks at these places, without those places where none is. Costs little, whatever the collection's size.

        A document may have been replaced since a search found it: the revision tells.
        """

    async def count(
        self,
        collection: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        owner: Owner | None = None,
        readers: Readers = None,
    ) -> int:
        """How many chunks match. Raises Problem(INVALID_FILTER) as `search` does."""

    async def documents(self, collection: str, *, owner: Owner | None = None) -> Mapping[str, int]:
        """The ids of all documents with their revisions, without those that are deleted. It reads the whole collection,
        but no texts and no vectors."""

    async def maintain(self, collection: str) -> None:
        """Bring the indices up to date, compact, and remove what no reader can need any more.

        Worth calling after every few commits and when writes pause; cheap where there is nothing to do.
        """

    async def drop(self, collection: str, *, owner: Owner | None = None) -> None:
        """Remove the collection with all its data; an absent one is fine."""

    async def close(self) -> None:
        """Let go of all resources. The store is not used afterwards."""


def check_collection(collection: str) -> str:
    """The id itself. Raises ValueError where it is not 1 to 64 characters a-z, 0-9, `_`, `-`."""
    if not _COLLECTION.fullmatch(collection):
        raise ValueError(f"not a collection id: {collection!r}")
    return collection


def searched_vector(vector: Vector | None, options: RankOptions) -> Vector | None:
    """What a search compares by meaning; None where it is by words alone. Raises ValueError where it needs a vector."""
    if options.mode is SearchMode.TEXT:
        return None
    if vector is None:
        raise ValueError(f"a search with mode {options.mode} needs a vector")
    return vector


def unit(vector: Vector) -> Vector:
    """The vector with length 1; zero stays zero."""
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length else vector, dtype=np.float32)
