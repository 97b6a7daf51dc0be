"""The stages of the default pipeline in one process, without models. The question says what goes wrong:

hold   the embedder's batch waits for `test.go.<query>`, which it announces as `test.started.<query>`
wait   announces `test.started.<query>` before it is embedded
die    the first worker that is to retrieve for it kills its own process; `marker` is the file that says so
flaky  the retriever fails at the first delivery
fail   the retriever fails always
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from services.generator.engines.extractive.engine import ExtractiveConfig, ExtractiveEngine
from services.generator.engines.metrics import MeasuredEngine
from services.generator.stages.generate import Generate
from shared.contracts.envelope import Passage, Query, pack_vector
from shared.runtime.batching import Batcher
from shared.runtime.stage import Context, Stage
from shared.service.process import main
from shared.service.service import ASGIApp, Service
from shared.service.settings import ServiceSettings

PASSAGE = Passage(id="p", document_id="d", document="warranty.md", position=0, text="The warranty is 24 months.")


class PipelineSettings(ServiceSettings):
    marker: Path = Path("marker")


class Stages:
    def __init__(self, client: Client, settings: PipelineSettings) -> None:
        self._client = client
        self._settings = settings
        self._failed: set[str] = set()
        self.batcher = Batcher[Query, bytes](self._embed, name="embed", max_items=8, max_cost=8, cost=lambda _: 1)

    async def embed(self, query: Query, context: Context) -> Query:
        if query.question == "wait":
            await self._announce(query)
        return query.with_embedding(await self.batcher.submit(query))

    async def retrieve(self, query: Query, context: Context) -> Query:
        if query.question == "die" and not self._settings.marker.exists():
            self._settings.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if query.question == "fail" or (query.question == "flaky" and query.id not in self._failed):
            self._failed.add(query.id)
            raise RuntimeError("the index is upside down")
        return query.with_passages([PASSAGE])

    async def _embed(self, queries: Sequence[Query]) -> list[bytes]:
        for query in queries:
            if query.question == "hold":
                go = asyncio.Event()

                async def hear(_: object, go: asyncio.Event = go) -> None:
                    go.set()

                await self._client.subscribe(f"test.go.{query.id}", cb=hear)
                await self._announce(query)
                await go.wait()
        return [pack_vector([1.0])] * len(queries)

    async def _announce(self, query: Query) -> None:
        await self._client.publish(f"test.started.{query.id}", json.dumps(self._settings.instance).encode())


def make(settings: PipelineSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[list[Stage]]:
        stages = Stages(service.bus.client, settings)
        generate = Generate(MeasuredEngine(ExtractiveEngine(ExtractiveConfig())))
        async with stages.batcher.running():
            made = {"embed": stages.embed, "retrieve": stages.retrieve, "generate": generate}
            yield [Stage(name=name, process=process) for name, process in made.items()]

    service = Service("answering", settings, setup)
    return service, service.asgi()


if __name__ == "__main__":
    main("answering", PipelineSettings, make)
