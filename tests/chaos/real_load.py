"""The load for the real services: questions over documents, and uploads that must be indexed once.

Every document of a tenant has the tenant's name in each sentence, so an answer or a source of another tenant shows.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import lancedb

from shared.nats.client import connect
from tests.chaos.bounds import ends_of
from tests.chaos.expected_answers import POISON_JOB
from tests.chaos.load import FLOODER, PROBE, TENANTS, Load
from tests.chaos.oracle import Asked, Oracle
from tests.chaos.plan import Kind
from tests.chaos.query_client import QueryClient

__all__ = ["CONSTANT_ONLY", "RealLoad", "judge_real"]

CONSTANT_ONLY: Final = frozenset({Kind.SLOW_READER, Kind.POISON_QUERY, Kind.DEADLY_QUERY})
"""Faults that only the constant stages know how to have."""

CANARY: Final = "canary"
"""The table with which retrievers try themselves."""

EVERYBODY: Final = (*TENANTS, FLOODER, PROBE)
LAMPS: Final = 20
"""Documents that each tenant has from the beginning."""


def judge_real(asked: Asked, answer: str, sources: Sequence[dict[str, Any]]) -> str:
    """What is wrong with an answer of the real stages; empty where nothing is."""
    if not sources or not answer:
        return f"no answer, from {len(sources)} sources: {answer!r}"
    texts = [answer, *(source["text"] for source in sources)]
    others = [tenant for tenant in EVERYBODY if tenant != asked.tenant]
    mixed = [text for text in texts if any(f"the {other} harbour" in text for other in others)]
    if mixed:
        return f"it has something of another tenant: {mixed[0][:200]!r}"
    if not all(f"the {asked.tenant} harbour" in source["text"] for source in sources):
        return f"a source that nobody has written: {sources}"
    return ""


class RealLoad(Load):
    """As `Load`; a job is the upload of one document."""

    def __init__(self, query_client: QueryClient, oracle: Oracle, seed: int, clients: int) -> None:
        super().__init__(query_client, oracle, seed, clients)
        query_client.judge = judge_real
        self._dice = random.Random(seed)
        self._names: dict[str, str] = {}

    async def prepare(self) -> None:
        """Give each tenant its first documents, and wait until they are found."""
        for tenant in EVERYBODY:
            for _ in range(LAMPS if tenant in TENANTS else 1):
                self.jobs[await self.submit("lamp", tenant, {})] = tenant
        async with asyncio.timeout(300):
            for tenant in EVERYBODY:
                while (
                    await self.query_client.ask(self.question("a", tenant), tenant, "warm-up", 60.0)
                ).outcome != "answer":
                    self.oracle.asked.pop()
                    await asyncio.sleep(0.2)

    def question(self, kind: str, tenant: str = "") -> str:
        return f"What is the code of lamp {self._dice.randrange(1, LAMPS)} at the {tenant} harbour?"

    def job(self, document: str, key: str, tenant: str, retry: dict[str, Any]) -> tuple[str, Any]:
        number = key.rpartition("-")[2]
        text = f"The code of lamp {number} at the {tenant} harbour is K{int(number):05}."
        name = f"{tenant}-{number}.txt" if document != POISON_JOB else f"poison-{number}.pdf"
        self._names[key] = name
        return "/v1/collections/c/documents", {"documents": [{"name": name, "text": text}]}

    async def check(self, url: str) -> tuple[list[str], dict[str, int]]:
        """Each accepted upload has succeeded once, and its document is in the index once."""
        client = await connect(url)
        try:
            jetstream = client.jetstream(timeout=30.0)
            succeeded, runs = await ends_of(jetstream, "succeeded"), await ends_of(jetstream, "running")
        finally:
            await client.close()
        rows = await asyncio.to_thread(_rows, self.index)
        wrong = [f"upload {job} succeeded {succeeded[job]} times" for job in self.jobs if succeeded[job] != 1]
        wrong += [f"{document} is {count} times in the index" for document, count in rows.items() if count != 1]
        unsure = len(self.unsure)
        if not len(self.jobs) <= len(rows) <= len(self.jobs) + unsure:
            wrong.append(f"{len(self.jobs)} uploads were accepted, and {len(rows)} documents are in the index")
        wrong += [f"a poison document is in the index: {name}" for name in rows if name.startswith("poison")]
        again = sum(count > 1 for job, count in runs.items() if job in self.jobs)
        counts = {"accepted": len(self.jobs), "effects": len(rows), "tried_again": again}
        return wrong, {**counts, "poisoned": len(self.poisoned)}


def _rows(index: Path) -> Counter[str]:
    """How many rows of the index each document has, read from the index itself."""
    database = lancedb.connect(index)
    found: Counter[str] = Counter()
    for name in database.table_names(limit=1000):
        if name == CANARY:
            continue
        rows = database.open_table(name).search().where("position IS NOT NULL").select(["document"]).limit(100_000)
        found.update(row["document"] for row in rows.to_list())
    return found
