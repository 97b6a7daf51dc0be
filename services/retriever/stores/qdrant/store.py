"""The store on Qdrant: a server or a cluster of them, which every process shares."""

import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, Self

from qdrant_client import models

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stores.base import (
    DEFAULT_OPTIONS,
    Hits,
    IndexedDocument,
    Permissions,
    Place,
    Readers,
    Replaced,
    StoredChunk,
    Vector,
    check_collection,
    searched_vector,
)
from services.retriever.stores.columns import Column
from services.retriever.stores.documents import check_dimension, check_vectors
from services.retriever.stores.qdrant.address import Address
from services.retriever.stores.qdrant.cleanup import clean, drop_points
from services.retriever.stores.qdrant.commit import Commit, pages
from services.retriever.stores.qdrant.connection import AbsentError, Connection
from services.retriever.stores.qdrant.filters import compile_filter
from services.retriever.stores.qdrant.layout import (
    CHUNKS,
    DOCUMENT_ID,
    POSITION,
    REVISION,
    SECTION,
    TEXT,
    Layout,
)
from services.retriever.stores.qdrant.replace import permit_documents, replace_documents
from services.retriever.stores.qdrant.search import TableSearch
from services.retriever.stores.qdrant.state import TableState
from services.retriever.stores.qdrant.statistics import Statistics
from services.retriever.stores.qdrant.tables import LEASE_SECONDS, LostLeaseError, Tables
from services.retriever.stores.qdrant.view import View, equals
from services.retriever.stores.qdrant.watch import ServerWatch
from shared.contracts.collections import Owner
from shared.contracts.filters import Filter
from shared.contracts.problems import Problem, ProblemType

__all__ = ["QdrantStore"]

log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
MOST_VALUES: Final = 10_000
"""Strings of a field up to which they can be ordered."""
READ_AT_ONCE: Final = 1_000


class QdrantStore:
    """A `Store`. Open one per process; any number share the server."""

    def __init__(
        self,
        connection: Connection,
        address: Address,
        *,
        freshness: float = 1.0,
        keep_versions: timedelta = timedelta(minutes=10),
        keep_tombstones: timedelta = timedelta(days=1),
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Changes of other processes are seen after `freshness` seconds at the latest. A search or a listing may go on
        for `keep_versions` while a collection changes. A writer is taken for gone that gave no sign of life for
        `lease_seconds`."""
        self._connection = connection
        self._layout = Layout(connection, address)
        self._tables = Tables(connection, self._layout, freshness=freshness, lease_seconds=lease_seconds)
        self._keep_versions = keep_versions
        self._keep_tombstones = keep_tombstones
        self._statistics = Statistics()
        self._watch = ServerWatch(connection)

    @classmethod
    def open(cls, uri: str, *, api_key: str = "", freshness: float = 1.0) -> Self:
        """Raises ValueError for a URI that is not like `qdrant://host:6333/prefix`. It connects with the first call."""
        address = Address.parse(uri)
        return cls(Connection.open(address, api_key), address, freshness=freshness)

    async def connect(self, waits: Callable[[str], None]) -> None:
        """Wait until the server answers, and from then on watch whether it does. `waits` is told why it does not yet.

        Raises RefusedError where the server cannot be used, Problem INDEX_UNAVAILABLE where it stays away.
        """
        await self._watch.start(waits)

    def obstacle(self) -> str:
        """Why the server does not answer; empty where it does."""
        return self._watch.obstacle

    async def replace(
        self,
        collection: str,
        documents: Sequence[IndexedDocument],
        *,
        owner: Owner | None = None,
        dimension: int | None = None,
    ) -> Replaced:
        name = check_collection(collection)
        # What documents bring goes before what the caller says.
        dimension = check_vectors(documents) or dimension
        for _ in range(ATTEMPTS):
            if dimension is not None:
                await self._make(name, dimension, owner)
            try:
                async with self._tables.leased(name) as turn:
                    if turn is not None and not turn.state.dropped:
                        turn.state.check_owner(owner)
                        commit = Commit(self._connection, self._layout, self._tables, name, turn)
                        return await replace_documents(commit, documents)
            except AbsentError:
                self._layout.forget()
                raise
            except LostLeaseError as error:
                log.warning("the change of the table %s is made anew: %s", name, error)
                continue
            self._tables.forget(name)
            if dimension is None:
                # In an absent collection every deletion is done already.
                return Replaced(replaced=frozenset(document.id for document in documents), absent=True)
        raise RuntimeError(f"the table {name} is dropped, or written by others, again and again")

    async def permit(self, collection: str, documents: Sequence[Permissions], *, owner: Owner | None = None) -> None:
        name = check_collection(collection)
        if not documents or await self._state(name, owner) is None:
            return
        async with self._tables.leased(name) as turn:
            if turn is not None and not turn.state.dropped:
                turn.state.check_owner(owner)
                commit = Commit(self._connection, self._layout, self._tables, name, turn)
                await permit_documents(commit, documents)

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
        vector = searched_vector(vector, options)
        found = await self._view(collection, owner, readers, filter)
        if found is None:
            return Hits()
        view, condition = found
        if vector is not None:
            check_dimension(len(vector), view.state.dimension)
        search = TableSearch(
            connection=self._connection,
            collection=self._layout.passages(view.state.dimension),
            view=view,
            condition=condition,
            statistics=self._statistics.of(view),
        )
        return await search.run(text, vector, top_k=top_k, options=options)

    async def read(
        self, collection: str, places: Collection[Place], *, owner: Owner | None = None, readers: Readers = None
    ) -> Mapping[Place, StoredChunk]:
        state = await self._state(check_collection(collection), owner) if places else None
        if state is None:
            return {}
        wanted: dict[str, list[int]] = {}
        for place in places:
            wanted.setdefault(place.document_id, []).append(place.position)
        where = View(state, readers).filter(models.Filter(should=[_around(*one) for one in wanted.items()]))
        fields = [DOCUMENT_ID, POSITION, REVISION, TEXT, SECTION]
        passages = self._layout.passages(state.dimension)
        found: dict[Place, StoredChunk] = {}
        async for record in pages(self._connection, passages, where, fields, size=READ_AT_ONCE):
            row = record.payload or {}
            place = Place(row[DOCUMENT_ID], int(row[POSITION]))
            found[place] = StoredChunk(place=place, revision=row[REVISION], text=row[TEXT], section=row.get(SECTION))
        return {place: found[place] for place in places if place in found}

    async def count(
        self,
        collection: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        owner: Owner | None = None,
        readers: Readers = None,
    ) -> int:
        found = await self._view(collection, owner, readers, filter)
        if found is None:
            return 0
        view, condition = found
        where = view.filter(*([] if condition is None else [condition]))
        passages = self._layout.passages(view.state.dimension)
        result = await self._connection.call(lambda client: client.count(passages, count_filter=where, exact=True))
        return result.count

    async def documents(self, collection: str, *, owner: Owner | None = None) -> Mapping[str, int]:
        state = await self._state(check_collection(collection), owner)
        if state is None:
            return {}
        where = View(state).filter(models.FieldCondition(key=CHUNKS, range=models.Range(gt=0)))
        found: dict[str, int] = {}
        async for record in pages(self._connection, self._layout.documents, where, [DOCUMENT_ID, REVISION]):
            row = record.payload or {}
            found[row[DOCUMENT_ID]] = row[REVISION]
        return found

    async def maintain(self, collection: str) -> None:
        await clean(
            self._connection,
            self._layout,
            self._tables,
            check_collection(collection),
            keep_versions=self._keep_versions,
            keep_tombstones=self._keep_tombstones,
        )

    async def drop(self, collection: str, *, owner: Owner | None = None) -> None:
        name = check_collection(collection)
        async with self._tables.leased(name) as turn:
            if turn is None:
                return
            if not turn.state.dropped:
                turn.state.check_owner(owner)
                await self._tables.commit(name, turn, lambda state: state.model_copy(update={"dropped": True}))
        await self._finish_drop(name)

    async def close(self) -> None:
        await self._watch.stop()
        await self._connection.close()

    async def _make(self, name: str, dimension: int, owner: Owner | None) -> None:
        """Make the table, unless it is there."""
        if await self._tables.get(name) is not None:
            return
        await self._finish_drop(name)
        made = TableState(id=uuid.uuid4().hex, dimension=dimension)
        if owner is not None:
            made = made.model_copy(update={"tenant": owner.tenant, "collection": owner.collection})
        await self._tables.make(name, made)

    async def _finish_drop(self, name: str) -> None:
        """Remove what is left of a table that is dropped: whoever dropped it may have been stopped before."""
        if (state := await self._tables.dropped(name)) is not None:
            await drop_points(self._connection, self._layout, state)
            await self._tables.remove(name)

    async def _state(self, collection: str, owner: Owner | None, *, anew: bool = False) -> TableState | None:
        """Raises Problem COLLECTION_NOT_FOUND where the table is another owner's."""
        state = await self._tables.get(collection, anew=anew)
        if state is not None:
            state.check_owner(owner)
        return state

    async def _view(
        self, collection: str, owner: Owner | None, readers: Readers, where: Filter | None
    ) -> tuple[View, models.Condition | None] | None:
        """What a reader sees, and the filter as Qdrant's condition; None where the table is absent."""
        name = check_collection(collection)
        for anew in (False, True):
            state = await self._state(name, owner, anew=anew)
            if state is None:
                return None
            view = View(state, readers)
            if where is None:
                return view, None
            try:
                return view, await compile_filter(where, state.columns, partial(self._values, view))
            except Problem as problem:
                # Another process may have added the field a moment ago.
                if anew or problem.kind is not ProblemType.INVALID_FILTER:
                    raise
        raise AssertionError

    async def _values(self, view: View, column: Column) -> Sequence[str]:
        """The strings that the passages of a view have in a column."""
        passages, where = self._layout.passages(view.state.dimension), view.filter()
        found = await self._connection.call(
            lambda client: client.facet(passages, column.name, facet_filter=where, limit=MOST_VALUES + 1, exact=True)
        )
        if len(found.hits) > MOST_VALUES:
            raise Problem(
                ProblemType.INVALID_FILTER,
                f"The filter orders strings of a field with more than {MOST_VALUES:,} of them. "
                "Store what is to be ordered as a number.",
            )
        return [str(hit.value) for hit in found.hits]


def _around(document_id: str, positions: Sequence[int]) -> models.Condition:
    """The passages of a document from the first of these positions to the last."""
    reach = models.Range(gte=min(positions), lte=max(positions))
    return models.Filter(must=[equals(DOCUMENT_ID, document_id), models.FieldCondition(key=POSITION, range=reach)])
