"""Searching an index through the retriever's own store: how fast, and how much of what is near is found."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import suite
from benchmarks.load import percentile
from benchmarks.retriever.building import COLLECTION
from benchmarks.retriever.corpus import BLOCK, PASSAGES, Corpus, Question
from services.retriever.ranking.ranker import RankOptions
from services.retriever.serving.store import ServingStore
from services.retriever.settings import RetrieverSettings
from services.retriever.stores.base import IndexedDocument, Store
from services.retriever.stores.lance.store import LanceStore
from services.retriever.stores.maintenance_scheduler import MaintenanceScheduler
from shared.contracts.filters import parse
from shared.contracts.retrieval import SearchMode

__all__ = ["ALL", "CASES", "PLACES", "TOP", "Case", "Plan", "search"]

DISK, MEMORY = "disk", "memory"
PLACES = (DISK, MEMORY)
"""The table on disk, and the index in memory that follows it."""

TOP = 10
MEMORY_MIB = 8_192
PATIENCE = 600.0
"""Seconds in which a collection is loaded at the latest."""
ALL = 1000
CONCURRENT = 16
TAIL_QUESTIONS = 30
COMMIT = 25
"""Documents that the writer replaces in one commit."""
WRITTEN_PER_SECOND = 1_000
"""Passages; a core embeds less than a hundred, a GPU thousands."""

Truth = Mapping[int, list[list[str]]]
Best = dict[tuple[SearchMode, int], list[list[str]]]


@dataclass(frozen=True, slots=True)
class Case:
    """Where and how to search, and in passages whose number is below `permille`."""

    place: str
    mode: SearchMode
    permille: int = ALL

    @property
    def options(self) -> RankOptions:
        return RankOptions(mode=self.mode)

    def __str__(self) -> str:
        kept = "" if self.permille == ALL else f", filter keeps {self.permille / 10:g} %"
        return f"{self.mode}{kept}, {self.place}"


CASES = tuple(
    Case(place, mode, permille)
    for mode, permille in (
        *((mode, ALL) for mode in (SearchMode.VECTOR, SearchMode.TEXT, SearchMode.HYBRID)),
        *((mode, permille) for permille in (500, 10, 1) for mode in (SearchMode.VECTOR, SearchMode.HYBRID)),
    )
    for place in PLACES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    questions: Sequence[Question]
    truth: Truth
    rounds: int
    seconds: float
    """Of each measurement with many searches at once, and of the one beside a writer eight times as many."""


@dataclass(slots=True)
class _Seen:
    """What came of one case."""

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    busy_p99_ms: list[float] = field(default_factory=list)
    recall: float = 1.0


def search(folder: Path, corpus: Corpus, plan: Plan) -> dict[str, Any]:
    return asyncio.run(_search(folder, corpus, plan))


async def _search(folder: Path, corpus: Corpus, plan: Plan) -> dict[str, Any]:
    best = await _best(folder, plan)
    disk = await LanceStore.open(str(folder))
    memory = ServingStore(disk, memory=MEMORY_MIB, patience=PATIENCE)
    stores: Mapping[str, Store] = {DISK: disk, MEMORY: memory}
    try:
        rss = {"open_rss_mib": _rss()}
        seen: defaultdict[Case, _Seen] = defaultdict(_Seen)
        for place in PLACES:
            for case in (case for case in CASES if case.place == place):
                found = [await _ask(stores[place], case, question) for question in plan.questions]  # warms up too
                seen[case].recall = _recall(case, best, found)
            rss[f"{place}_rss_mib"] = _rss()
        for number, case in suite.interleave(CASES, plan.rounds):
            await _measure(stores[case.place], case, plan, seen[case])
            suite.say(f"{corpus.size:>9,} round {number + 1}: {case!s:<36}{_shown(seen[case])}")
        return rss | {
            "cases": [_summary(case, seen[case]) for case in CASES],
            "writing": {place: await _beside_writer(stores[place], place, corpus, plan, best) for place in PLACES},
            "tail": {place: await _tail(stores[place], place, corpus, plan) for place in PLACES},
        }
    finally:
        await memory.close()


async def _ask(store: Store, case: Case, question: Question) -> list[str]:
    where = None if case.permille == ALL else parse({"permille": {"$lt": case.permille}})
    hits = await store.search(COLLECTION, question.text, question.vector, top_k=TOP, filter=where, options=case.options)
    return [hit.id for hit in hits]


async def _best(folder: Path, plan: Plan) -> Best:
    """By mode and filter, for each question the ten that a search would find which compares all vectors."""
    best = {(SearchMode.VECTOR, permille): [ids[:TOP] for ids in near] for permille, near in plan.truth.items()}
    store = ServingStore(await LanceStore.open(str(folder)), memory=MEMORY_MIB, patience=PATIENCE, exhaustive=True)
    try:
        for case in (case for case in CASES if case.mode is not SearchMode.VECTOR and case.place == MEMORY):
            best[case.mode, case.permille] = [await _ask(store, case, question) for question in plan.questions]
    finally:
        await store.close()
    return best


def _recall(case: Case, best: Best, found: list[list[str]]) -> float:
    """The share of the best ten that were found."""
    pairs = list(zip(best[case.mode, case.permille], found, strict=True))
    total = sum(len(ids) for ids, _ in pairs)
    return sum(len(set(ids) & set(ours)) for ids, ours in pairs) / total if total else 1.0


async def _measure(store: Store, case: Case, plan: Plan, seen: _Seen) -> None:
    alone = await _one_by_one(store, case, plan.questions)
    seen.p50_ms.append(percentile(alone, 0.5) * 1e3)
    seen.p99_ms.append(percentile(alone, 0.99) * 1e3)
    began = time.perf_counter()
    busy = await _at_once(store, case, plan, began + plan.seconds)
    seen.per_second.append(len(busy) / (time.perf_counter() - began))
    seen.busy_p99_ms.append(percentile(busy, 0.99) * 1e3)


async def _one_by_one(store: Store, case: Case, questions: Sequence[Question]) -> list[float]:
    taken = []
    for question in questions:
        began = time.perf_counter()
        await _ask(store, case, question)
        taken.append(time.perf_counter() - began)
    return taken


async def _at_once(store: Store, case: Case, plan: Plan, until: float) -> list[float]:
    taken: list[float] = []

    async def client(number: int) -> None:
        while time.perf_counter() < until:
            taken.extend(await _one_by_one(store, case, [plan.questions[number % len(plan.questions)]]))
            number += CONCURRENT

    async with asyncio.TaskGroup() as clients:
        for number in range(CONCURRENT):
            clients.create_task(client(number))
    return taken


async def _beside_writer(store: Store, place: str, corpus: Corpus, plan: Plan, best: Best) -> dict[str, float]:
    """Hybrid searches, one after the other, while documents are replaced and the index is kept up."""
    defaults = {name: field.default for name, field in RetrieverSettings.model_fields.items()}
    maintenance = MaintenanceScheduler(
        store,
        pause=defaults["upkeep_pause"],
        commits=defaults["upkeep_commits"],
        passages=defaults["upkeep_passages"],
    )
    writes = _writes(corpus)
    commits = 0

    async def write() -> None:
        nonlocal commits
        while True:
            due = began + commits * COMMIT * PASSAGES / WRITTEN_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await store.replace(COLLECTION, next(writes))
            maintenance.changed(COLLECTION, COMMIT * PASSAGES)
            commits += 1

    case = Case(place, SearchMode.HYBRID)
    taken: list[float] = []
    found: list[list[str]] = []
    async with maintenance.running():
        began = time.perf_counter()
        writer = asyncio.create_task(write())
        while time.perf_counter() - began < 8 * plan.seconds or len(found) < len(plan.questions):
            question = plan.questions[len(found) % len(plan.questions)]
            start = time.perf_counter()
            found.append(await _ask(store, case, question))
            taken.append(time.perf_counter() - start)
        seconds = time.perf_counter() - began
        writer.cancel()
        await asyncio.wait([writer])
    recall = _recall(case, best, found[: len(plan.questions)])
    return {
        "p50_ms": percentile(taken, 0.5) * 1e3,
        "p99_ms": percentile(taken, 0.99) * 1e3,
        "recall": recall,
        "passages_per_second": commits * COMMIT * PASSAGES / seconds,
    }


async def _tail(store: Store, place: str, corpus: Corpus, plan: Plan) -> list[dict[str, float]]:
    """Hybrid searches with more and more passages that the index does not cover, and with none again."""
    steps = []
    writes = _writes(corpus)
    for uncovered in (0, 2, 4, 16, 0):
        if not uncovered:
            await store.maintain(COLLECTION)
            written = 0
        while written < uncovered:
            await store.replace(COLLECTION, next(writes))
            written += 1
        taken = await _one_by_one(store, Case(place, SearchMode.HYBRID), plan.questions[:TAIL_QUESTIONS])
        steps.append({"uncovered": written * COMMIT * PASSAGES, "p50_ms": percentile(taken, 0.5) * 1e3})
    return steps


def _writes(corpus: Corpus) -> Iterator[list[IndexedDocument]]:
    """Documents to write again, with what they had: what is true of the corpus stays true."""
    blocks = min(max(corpus.size // BLOCK, 1), 4)
    documents = [document for number in range(blocks) for document in corpus.documents(corpus.block(number))]
    return itertools.cycle(documents[start : start + COMMIT] for start in range(0, len(documents), COMMIT))


def _summary(case: Case, seen: _Seen) -> dict[str, Any]:
    spreads = {name: suite.spread(getattr(seen, name)) for name in ("p50_ms", "p99_ms", "per_second", "busy_p99_ms")}
    return {
        "case": str(case),
        "place": case.place,
        "mode": str(case.mode),
        "permille": case.permille,
        "recall": seen.recall,
    } | spreads


def _shown(seen: _Seen) -> str:
    return (
        f"p50 {seen.p50_ms[-1]:6.1f} ms, p99 {seen.p99_ms[-1]:6.1f} ms, {seen.per_second[-1]:5.0f}/s, "
        f"recall {seen.recall:.3f}"
    )


def _rss() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)
