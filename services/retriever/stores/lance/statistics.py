"""What a table knows of terms: how many passages hold one, how long passages are, which languages they are in.

Lance's index tells no document frequencies, so a search for one term alone tells them, up to COUNTED. What is looked up
is kept: a rare term as long as the table has not changed, a common one and the averages for a while.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lancedb.query import MatchQuery
from lancedb.table import AsyncTable

from services.retriever.ranking.lexical import TermStatistics
from services.retriever.stores.lance.rows import ALIVE, TERMS, terms_of
from services.retriever.stores.limits import COUNTED, SAMPLE
from services.retriever.stores.term_statistics import Sample, TermFrequencies, sample_of
from shared.analysis.languages import Language
from shared.tasks import task_group

__all__ = ["Statistics", "TableStatistics"]

KEPT_TABLES: Final = 256


@dataclass(slots=True)
class TableStatistics:
    """Of one table, or of those of its rows that match `seen`, in SQL; for one event loop."""

    seen: str | None = None
    frequencies: TermFrequencies = field(default_factory=TermFrequencies)
    sample: Sample | None = None

    async def languages(self, table: AsyncTable) -> tuple[Language, ...]:
        """The languages of the passages, the most common one first."""
        return (await self._sampled(table)).languages

    async def of(self, table: AsyncTable, column: str, forms: Iterable[str]) -> TermStatistics:
        """The statistics with the frequencies of these forms."""
        sample, version, now = await self._sampled(table), await table.version(), time.monotonic()
        wanted = list(dict.fromkeys(forms))
        async with task_group() as group:
            for form in self.frequencies.unknown(wanted, version, now):
                group.create_task(self._look_up(table, column, form, version, now))
        return TermStatistics(sample.passages, sample.average_length, self.frequencies.of(wanted))

    async def _look_up(self, table: AsyncTable, column: str, form: str, version: int, now: float) -> None:
        query = table.query().nearest_to_text(MatchQuery(form, column))
        if self.seen:
            query = query.where(self.seen)
        found = await query.select(["_score"]).limit(COUNTED).to_arrow()
        self.frequencies.note(form, found.num_rows, version, now)

    async def _sampled(self, table: AsyncTable) -> Sample:
        now, rows = time.monotonic(), await table.count_rows(self.seen)
        known = self.sample
        if known is None or not known.counts(rows, now):
            self.sample = known = await _sample(table, rows, now, self.seen)
        return known


class Statistics:
    """Of the tables that were searched last."""

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple[str, str | None], TableStatistics] = OrderedDict()

    def of(self, name: str, seen: str | None = None) -> TableStatistics:
        """Of the rows of a table that match `seen`, in SQL."""
        statistics = self._tables.setdefault((name, seen), TableStatistics(seen))
        self._tables.move_to_end((name, seen))
        while len(self._tables) > KEPT_TABLES:
            self._tables.popitem(last=False)
        return statistics

    def forget(self, name: str) -> None:
        for key in [key for key in self._tables if key[0] == name]:
            del self._tables[key]


async def _sample(table: AsyncTable, rows: int, now: float, seen: str | None) -> Sample:
    columns = [column for column in ("text", TERMS) if column in (await table.schema()).names]
    step = max(1, rows // SAMPLE)
    if seen:
        found = await table.query().where(f"{ALIVE} AND {seen}").select(columns).limit(SAMPLE).to_arrow()
    elif rows:
        found = await table.take_offsets(list(range(0, rows, step))[:SAMPLE]).select(columns).to_arrow()
    else:
        found = None
    passages = [row for row in (found.to_pylist() if found else ()) if row["text"] is not None]
    return sample_of([row["text"] for row in passages], map(terms_of, passages), rows, now)
