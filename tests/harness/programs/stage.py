"""A stage service whose work does what each query's question says, and tells the test of it over the bus.

hold    announces `test.started.<query>`, waits for `test.go.<query>`; cancelled, announces `test.stopped.<query>`
die     announces `test.started.<query>` and kills its own process
fail    raises, unless SLUICE_REPAIRED is set
stream  sends deltas until it is stopped
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client

from shared.contracts.envelope import Query
from shared.runtime import onward
from shared.runtime.forward import forward
from shared.runtime.stage import Context, Stage
from shared.service.process import main
from shared.service.service import ASGIApp, Service
from shared.service.settings import ServiceSettings


class StageSettings(ServiceSettings):
    stage: str = "work"
    room: int = 4
    repaired: bool = False
    dies_after_forward: bool = False
    loading: str = ""
    canary: str = ""


class Scripted:
    def __init__(self, client: Client, settings: StageSettings) -> None:
        self._client = client
        self._settings = settings

    async def __call__(self, query: Query, context: Context) -> Query | None:
        match query.question:
            case "hold":
                await self._hold(query)
            case "die":
                await self._announce("started", query)
                for _ in range(2):  # one flush overtakes what was written just before
                    await self._client.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            case "fail" if not self._settings.repaired:
                raise RuntimeError("not repaired yet")
            case "stream":
                try:
                    while True:
                        await context.delta("word ")
                        await asyncio.sleep(0.01)
                finally:
                    await self._announce("stopped", query)
        return query

    async def _hold(self, query: Query) -> None:
        go = asyncio.Event()

        async def hear(_: object) -> None:
            go.set()

        subscription = await self._client.subscribe(f"test.go.{query.id}", cb=hear)
        await self._announce("started", query)
        try:
            await go.wait()
        except asyncio.CancelledError:
            await self._announce("stopped", query)
            raise
        finally:
            await subscription.unsubscribe()

    async def _announce(self, what: str, query: Query) -> None:
        await self._client.publish(f"test.{what}.{query.id}", json.dumps(self._settings.instance).encode())


async def _forward_and_die(*args: Any, **kwargs: Any) -> None:
    await forward(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)


def make(settings: StageSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[list[Stage]]:
        if settings.loading == "fails":
            raise OSError("the model is not there")
        if settings.loading == "in a thread for ever":
            await asyncio.to_thread(time.sleep, 600)
        canary = Query(id="c", asked_at=0, deadline=0, reply="r", slip=(), question=settings.canary)
        process = Scripted(service.bus.client, settings)
        yield [Stage(name=settings.stage, process=process, room=settings.room, canary=canary)]

    service = Service(settings.stage, settings, setup)
    return service, service.asgi()


if __name__ == "__main__":
    if StageSettings().dies_after_forward:
        onward.forward = _forward_and_die
    main("stage", StageSettings, make)
