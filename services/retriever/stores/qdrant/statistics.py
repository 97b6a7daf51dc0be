"""What a table knows of terms, for the readers of a view: how many passages hold one, how long passages are, and which
languages they are in.

The passages that hold a form are counted by a search for it alone, up to COUNTED; all forms go in one request.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qdrant_client import models

from services.retriever.ranking.lexical import TermStatistics
from services.retriever.stores.base import Readers
from services.retriever.stores.limits import COUNTED, SAMPLE
from services.retriever.stores.qdrant.connection import Connection
from services.retriever.stores.qdrant.layout import TERMS, TEXT, WORDS
from services.retriever.stores.qdrant.points import sparse
from services.retriever.stores.qdrant.view import View
from services.retriever.stores.term_statistics import Sample, TermFrequencies, sample_of
from shared.analysis.languages import Language

__all__ = ["Statistics", "ViewStatistics"]

KEPT_VIEWS: Final = 256


@dataclass(slots=True)
class ViewStatistics:
    """Of the passages of one table that some readers may see, whatever version; for one event loop."""

    frequencies: TermFrequencies = field(default_factory=TermFrequencies)
    counted: tuple[int, int] = (-1, 0)
    """The version, and how many passages it has."""
    sample: Sample | None = None

    async def languages(self, connection: Connection, collection: str, view: View) -> tuple[Language, ...]:
        """The languages of the passages, the most common one first."""
        return (await self._sampled(connection, collection, view)).languages

    async def of(self, connection: Connection, collection: str, view: View, forms: Iterable[str]) -> TermStatistics:
        """The statistics with the frequencies of these forms."""
        sample, now = await self._sampled(connection, collection, view), time.monotonic()
        wanted = list(dict.fromkeys(forms))
        if unknown := self.frequencies.unknown(wanted, view.state.version, now):
            await self._look_up(connection, collection, view, unknown, now)
        return TermStatistics(self.counted[1], sample.average_length, self.frequencies.of(wanted))

    async def _look_up(
        self, connection: Connection, collection: str, view: View, forms: Sequence[str], now: float
    ) -> None:
        requests = [
            models.QueryRequest(
                query=sparse([form]), using=WORDS, filter=view.filter(), limit=COUNTED, with_payload=False
            )
            for form in forms
        ]
        found = await connection.call(lambda client: client.query_batch_points(collection, requests))
        for form, response in zip(forms, found, strict=True):
            self.frequencies.note(form, len(response.points), view.state.version, now)

    async def _sampled(self, connection: Connection, collection: str, view: View) -> Sample:
        now, version = time.monotonic(), view.state.version
        if self.counted[0] != version:
            where = view.filter()
            result = await connection.call(lambda client: client.count(collection, count_filter=where, exact=True))
            self.counted = (version, result.count)
        passages, known = self.counted[1], self.sample
        if known is None or not known.counts(passages, now):
            self.sample = known = await _sample(connection, collection, view, passages, now)
        return known


class Statistics:
    """Of the tables and readers that were searched last."""

    def __init__(self) -> None:
        self._views: OrderedDict[tuple[str, Readers], ViewStatistics] = OrderedDict()

    def of(self, view: View) -> ViewStatistics:
        key = (view.state.id, view.readers)
        statistics = self._views.setdefault(key, ViewStatistics())
        self._views.move_to_end(key)
        while len(self._views) > KEPT_VIEWS:
            self._views.popitem(last=False)
        return statistics


async def _sample(connection: Connection, collection: str, view: View, passages: int, now: float) -> Sample:
    """The first passages by their points' ids, which are as good as drawn by chance."""
    where = view.filter()
    records, _ = await connection.call(
        lambda client: client.scroll(
            collection, scroll_filter=where, limit=SAMPLE, with_payload=[TEXT, TERMS], with_vectors=False
        )
    )
    rows = [record.payload or {} for record in records]
    return sample_of([row[TEXT] for row in rows], (row[TERMS] for row in rows), passages, now)
