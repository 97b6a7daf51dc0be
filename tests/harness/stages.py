"""The stages embed, retrieve and generate in the test's own process, on the real runtime; a test says what they do."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shared.contracts.envelope import Passage, Query, pack_vector
from shared.contracts.events import Usage
from shared.runtime.stage import Context, Process, Stage
from shared.service.service import Service
from shared.service.settings import ServiceSettings
from tests.harness.stage_harness import until

__all__ = ["ALL", "PASSAGES", "Stages", "answer_with"]

ALL = ("embed", "retrieve", "generate")

PASSAGES = tuple(
    Passage(id=f"d{n}:0", document_id=f"d{n}", document=f"doc{n}.txt", position=0, text=f"passage {n}", score=1 / n)
    for n in (1, 2)
)


async def pass_on(query: Query, _: Context) -> Query:
    return query


async def embed(query: Query, _: Context) -> Query:
    return query.with_embedding(pack_vector([1.0, 0.0]))


async def retrieve(query: Query, _: Context) -> Query:
    return query.with_passages(PASSAGES)


def answer_with(*pieces: str) -> Process:
    """A generator that quotes these pieces."""

    async def generate(query: Query, context: Context) -> None:
        await context.sources(query.passages)
        for piece in pieces:
            await context.delta(piece)
        await context.done(usage=Usage(prompt_tokens=7, completion_tokens=len(pieces)), engine="quoting")

    return generate


class Stages:
    """What each stage does, by name, and what it has been given so far."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.does: dict[str, Process] = {
            "condense": pass_on,
            "expand": pass_on,
            "embed": embed,
            "retrieve": retrieve,
            "generate": answer_with("Hello ", "world"),
        }
        self.given: defaultdict[str, list[Query]] = defaultdict(list)
        self.models: dict[str, str] = {}
        """The model that a stage says it runs, by the stage's name."""
        self._settings = ServiceSettings(nats_url=url, instance=f"stages-{time.time_ns()}", **settings)
        self._arrived = asyncio.Condition()

    @asynccontextmanager
    async def running(self, names: Sequence[str] = ALL, variant: str = "default") -> AsyncIterator[None]:
        """Serve these stages for as long as the block runs."""

        @asynccontextmanager
        async def setup(_: Service) -> AsyncIterator[list[Stage]]:
            yield [self._stage(name, variant) for name in names]

        service = Service("stages", self._settings, setup)
        failure: Exception | None = None
        async with service.asgi().start_lifespan_context():
            await until(lambda: _ready(service))
            try:
                yield
            except Exception as error:  # noqa: BLE001  (a service that fails ends its process, here the test run)
                failure = error
        if failure is not None:
            raise failure

    async def arrived(self, name: str, count: int = 1) -> None:
        """Wait until a stage has been given this many queries."""
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(lambda: len(self.given[name]) >= count)

    def _stage(self, name: str, variant: str) -> Stage:
        model = self.models.get(name, "")
        return Stage(name=name, variant=variant, process=self._process(name), room=256, batch_room=64, model=model)

    def _process(self, name: str) -> Process:
        async def process(query: Query, context: Context) -> Query | None:
            if query.id.startswith("canary"):
                return query
            async with self._arrived:
                self.given[name].append(query)
                self._arrived.notify_all()
            return await self.does[name](query, context)

        return process


async def _ready(service: Service) -> bool:
    return service.ready
