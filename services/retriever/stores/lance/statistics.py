"""What a table knows of terms: how many passages hold one, how long passages are, which languages they are in.

Lance's index tells no document frequencies, so a search for one term alone tells them, up to COUNTED. What is looked up
is kept: a rare term as long as the table has not changed, a common one and the averages for a while.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lancedb.query import MatchQuery
from lancedb.table import AsyncTable

from services.retriever.ranking.lexical import TermStatistics
from services.retriever.stores.lance.rows import ALIVE, TERMS, terms_of
from shared.analysis.languages import Language, detect_language
from shared.tasks import task_group

__all__ = ["COUNTED", "SAMPLE", "SPOKEN", "Statistics", "TableStatistics"]

COUNTED: Final = 256
"""Passages with a term that are counted; what more have is common enough."""

COMMON_SECONDS: Final = 300.0
SAMPLE: Final = 200
"""Passages that tell the average length and the languages."""
SPOKEN: Final = 0.02
"""Share of the sample in a language from which on questions are also read in it."""
KEPT_TERMS: Final = 20_000
KEPT_TABLES: Final = 256


@dataclass(slots=True)
class _Sample:
    average_length: float
    languages: tuple[Language, ...]
    rows: int
    until: float


@dataclass(slots=True)
class TableStatistics:
    """Of one table, or of those of its rows that match `seen`, in SQL; for one event loop."""

    seen: str | None = None
    frequencies: "OrderedDict[str, tuple[int, int, float]]" = field(default_factory=OrderedDict)
    """By form: its frequency, the table's version at that time, and until when a common one counts."""
    sample: _Sample | None = None

    async def languages(self, table: AsyncTable) -> tuple[Language, ...]:
        """The languages of the passages, the most common one first."""
        return (await self._sampled(table)).languages

    async def of(self, table: AsyncTable, column: str, forms: Iterable[str]) -> TermStatistics:
        """The statistics with the frequencies of these forms."""
        sample, version, now = await self._sampled(table), await table.version(), time.monotonic()
        wanted = list(dict.fromkeys(forms))
        unknown = [form for form in wanted if not self._known(form, version, now)]
        async with task_group() as group:
            for form in unknown:
                group.create_task(self._look_up(table, column, form, version, now))
        frequencies = {form: self.frequencies[form][0] for form in wanted}
        while len(self.frequencies) > KEPT_TERMS:
            self.frequencies.popitem(last=False)
        return TermStatistics(sample.rows, sample.average_length, frequencies)

    def _known(self, form: str, version: int, now: float) -> bool:
        if (kept := self.frequencies.get(form)) is None:
            return False
        self.frequencies.move_to_end(form)
        frequency, of_version, until = kept
        return of_version == version or (frequency >= COUNTED and now < until)

    async def _look_up(self, table: AsyncTable, column: str, form: str, version: int, now: float) -> None:
        query = table.query().nearest_to_text(MatchQuery(form, column))
        if self.seen:
            query = query.where(self.seen)
        found = await query.select(["_score"]).limit(COUNTED).to_arrow()
        self.frequencies[form] = (found.num_rows, version, now + COMMON_SECONDS)

    async def _sampled(self, table: AsyncTable) -> _Sample:
        now, rows = time.monotonic(), await table.count_rows(self.seen)
        known = self.sample
        if known is None or now > known.until or not 0.8 * known.rows <= rows <= 1.25 * known.rows:
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


async def _sample(table: AsyncTable, rows: int, now: float, seen: str | None) -> _Sample:
    columns = [column for column in ("text", TERMS) if column in (await table.schema()).names]
    step = max(1, rows // SAMPLE)
    if seen:
        found = await table.query().where(f"{ALIVE} AND {seen}").select(columns).limit(SAMPLE).to_arrow()
    elif rows:
        found = await table.take_offsets(list(range(0, rows, step))[:SAMPLE]).select(columns).to_arrow()
    else:
        found = None
    passages = [row for row in (found.to_pylist() if found else ()) if row["text"] is not None]
    lengths = [terms_of(row).count(" ") + 1 for row in passages]
    spoken = Counter(detect_language(row["text"]) for row in passages)
    languages = tuple(language for language, count in spoken.most_common() if count >= SPOKEN * len(passages))
    return _Sample(sum(lengths) / len(lengths) if lengths else 1.0, languages, rows, now + COMMON_SECONDS)
