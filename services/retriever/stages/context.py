"""What stands around the passages that a search has found: the chunks next to each, as far as its section goes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from services.retriever.stores.base import Hit, Place, Readers, Store, StoredChunk
from shared.analysis.chunks import belong_together
from shared.contracts.collections import Owner
from shared.contracts.envelope import Neighbour

__all__ = ["surroundings", "within"]

_Chunks = Mapping[Place, StoredChunk]

OVERHEAD: Final = 64
"""Bytes of a neighbour on the wire besides its text."""


async def surroundings(
    store: Store,
    collection: str,
    hits: Sequence[Hit],
    reach: int,
    *,
    owner: Owner | None = None,
    readers: Readers = None,
) -> list[tuple[Neighbour, ...]]:
    """For each hit at most `reach` chunks before it and after it, in the order of the document.

    They are of the hit's section and of the revision that was found, without gaps: a document that was replaced since
    the search has none.
    """
    known: dict[Place, StoredChunk] = {_place(hit): _chunk(hit) for hit in hits}
    wanted = {place for hit in hits for place in _around(hit, reach)} - known.keys()
    known |= await store.read(collection, wanted, owner=owner, readers=readers)
    return [_context(_chunk(hit), known, reach) for hit in hits]


def within(contexts: Sequence[tuple[Neighbour, ...]], room: int) -> Iterator[tuple[Neighbour, ...]]:
    """The contexts that fit into so many bytes, those of the first passages first, each whole or empty."""
    for context in contexts:
        size = sum(len(one.text.encode()) + OVERHEAD for one in context)
        if size <= room:
            room -= size
            yield context
        else:
            yield ()


def _context(hit: StoredChunk, known: _Chunks, reach: int) -> tuple[Neighbour, ...]:
    before = list(_walk(hit, known, -1, reach))
    return tuple(
        Neighbour(position=one.place.position, text=one.text) for one in (*before[::-1], *_walk(hit, known, 1, reach))
    )


def _walk(hit: StoredChunk, known: _Chunks, step: int, reach: int) -> Iterator[StoredChunk]:
    """Chunks away from the hit, until the section ends."""
    last = hit
    for _ in range(reach):
        found = known.get(Place(last.place.document_id, last.place.position + step))
        if found is None or found.revision != hit.revision:
            return
        first, second = (found, last) if step < 0 else (last, found)
        if not _is_one_section(first, second):
            return
        yield found
        last = found


def _is_one_section(first: StoredChunk, second: StoredChunk) -> bool:
    if first.section is None or second.section is None:
        return belong_together(first.text, second.text)
    return first.section == second.section


def _around(hit: Hit, reach: int) -> Iterator[Place]:
    for position in range(max(0, hit.position - reach), hit.position + reach + 1):
        yield Place(hit.document_id, position)


def _place(hit: Hit) -> Place:
    return Place(hit.document_id, hit.position)


def _chunk(hit: Hit) -> StoredChunk:
    return StoredChunk(place=_place(hit), revision=hit.revision, text=hit.text, section=hit.section)
