"""Asking one query through one of the gateways, as a client behind a load balancer does, and judging what comes."""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from tests.chaos.deployment import Member
from tests.chaos.http import Connection, LostError, RefusedError, Reply
from tests.chaos.oracle import Asked, Oracle, judge_answer, judge_problem, judge_start

__all__ = ["QueryClient", "Balancer", "Judge", "is_ready", "is_stream", "read_events"]

JSON_PROBLEM: Final = "application/problem+json"
HANG: Final = 60.0
"""Seconds past its deadline after which a query is taken to hang for ever."""

LOOK: Final = 0.1

IDLE: Final = 2.0
"""Seconds for which an idle connection is kept; a gateway closes it after five."""


Judge = Callable[[Asked, str, Sequence[dict[str, Any]]], str]
"""What is wrong with an answer and its sources."""


class Balancer:
    """Which gateways are ready, as a load balancer knows it, and the idle connections to them."""

    def __init__(self, gateways: list[Member]) -> None:
        self._gateways = {gateway.name: gateway for gateway in gateways}
        self._ready: set[str] = set()
        self._idle: defaultdict[str, list[tuple[float, Connection]]] = defaultdict(list)
        self._dice = random.Random(1)

    async def choose(self) -> str:
        """A gateway that is ready; after a moment any, if none is."""
        if not self._ready:
            await asyncio.sleep(LOOK)
        return self._dice.choice(sorted(self._ready or self._gateways))

    async def connect(self, gateway: str) -> Connection:
        """Raises RefusedError."""
        while self._idle[gateway]:
            since, connection = self._idle[gateway].pop()
            if time.monotonic() - since < IDLE and not connection.ended:
                return connection
            connection.close()
        try:
            return await Connection.open(self._gateways[gateway].port)
        except RefusedError:
            self._ready.discard(gateway)
            raise

    async def fresh(self, gateway: str, receive_buffer: int | None = None) -> Connection:
        return await Connection.open(self._gateways[gateway].port, receive_buffer=receive_buffer)

    def give_back(self, gateway: str, connection: Connection, reply: Reply) -> None:
        if reply.closes:
            connection.close()
        else:
            self._idle[gateway].append((time.monotonic(), connection))

    async def watch(self) -> None:
        """Look at /readyz of each, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._gateways:
                tasks.create_task(self._watch(name))

    def close(self) -> None:
        for connections in self._idle.values():
            for _, connection in connections:
                connection.close()
        self._idle.clear()

    async def _watch(self, name: str) -> None:
        while True:
            if await is_ready(self._gateways[name].port):
                self._ready.add(name)
            else:
                self._ready.discard(name)
                for _, connection in self._idle.pop(name, []):
                    connection.close()
            await asyncio.sleep(LOOK)


async def is_ready(port: int) -> bool:
    """Whether /readyz of a service says yes, within two seconds."""
    with suppress(RefusedError, LostError, TimeoutError):
        async with asyncio.timeout(2.0):
            connection = await Connection.open(port)
            try:
                return (await connection.send("GET", "/readyz")).status == 200
            finally:
                connection.close()
    return False


class QueryClient:
    """Asks as tenants with their keys, and tells the oracle."""

    def __init__(self, balancer: Balancer, oracle: Oracle, keys: dict[str, str]) -> None:
        self.balancer = balancer
        self.oracle = oracle
        self.keys = keys
        self.judge: Judge = judge_answer
        self.unreachable = 0
        self.round = 0

    async def ask(self, question: str, tenant: str, kind: str, timeout: float, *, gateway: str | None = None) -> Asked:
        """Ask until a gateway takes the query, and see it to its end."""
        while True:
            chosen = gateway or await self.balancer.choose()
            try:
                connection = await self.balancer.connect(chosen)
            except RefusedError:
                self.unreachable += 1
                await asyncio.sleep(LOOK)
                continue
            break
        asked = self.begin(question, tenant, chosen, kind, timeout)
        async with self.recorded(asked, connection):
            reply = await self.send(connection, asked, stream=kind in ("stream", "slow"))
            if is_stream(reply):
                await read_events(connection, asked, self.judge)
            else:
                await self._read(connection, reply, asked)
            self.balancer.give_back(chosen, connection, reply)
        return asked

    def begin(self, question: str, tenant: str, gateway: str, kind: str, timeout: float) -> Asked:
        asked = Asked(question, tenant, gateway, kind, timeout, time.monotonic(), round=self.round)
        self.oracle.asked.append(asked)
        return asked

    async def send(self, connection: Connection, asked: Asked, *, stream: bool) -> Reply:
        body = {"question": asked.question, "collection": "c", "timeout": asked.timeout, "stream": stream}
        return await connection.send("POST", "/v1/query", body, self.authorization(asked.tenant))

    def authorization(self, tenant: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[tenant]}"}

    @asynccontextmanager
    async def recorded(self, asked: Asked, connection: Connection) -> AsyncIterator[None]:
        """Note when and how the query ends, also where the connection breaks; a query that hangs never ends."""
        try:
            async with asyncio.timeout(asked.timeout + HANG):
                yield
            asked.ended = time.monotonic()
        except LostError:
            connection.close()
            asked.outcome, asked.ended = "lost", time.monotonic()
        except TimeoutError:
            connection.close()
            asked.outcome = "hangs"
        except asyncio.CancelledError:
            connection.close()
            self.oracle.asked.remove(asked)
            raise

    async def _read(self, connection: Connection, reply: Reply, asked: Asked) -> None:
        raw = await connection.whole(reply)
        if reply.status == 200:
            body = json.loads(raw)
            asked.outcome = "answer"
            asked.fault = self.judge(asked, body["answer"], body["sources"])
        else:
            take_problem(asked, reply.status, reply.media_type, raw)
            if reply.status in (429, 503) and "retry-after" not in reply.headers:
                asked.fault = f"{reply.status} without Retry-After"


async def read_events(
    connection: Connection, asked: Asked, judge: Judge, pause: Callable[[int], Any] | None = None
) -> None:
    """Read a stream to its end; `pause` is awaited after each event."""
    text, sources, ended, number = "", None, False, 0
    async for name, data in connection.events():
        number += 1
        if ended:
            asked.fault = f"'{name}' came after the end"
        match name:
            case "sources":
                asked.fault = asked.fault or ("sources came twice" if sources is not None else "")
                sources = data["sources"]
            case "delta":
                text += data["text"]
            case "done":
                ended, asked.outcome = True, "answer"
                asked.fault = asked.fault or judge(asked, text, sources or [])
            case "error":
                ended = True
                take_problem(asked, data.get("status"), JSON_PROBLEM, data)
                asked.fault = asked.fault or (judge_start(asked, text) if judge is judge_answer else "")
        if pause is not None:
            await pause(number)
    if not ended:
        asked.outcome = "cut short"
        asked.fault = asked.fault or "the stream ended without an end"


def is_stream(reply: Reply) -> bool:
    return reply.media_type == "text/event-stream"


def take_problem(asked: Asked, status: int, media_type: str, raw: Any) -> None:
    """Note the problem in which a query ended."""
    try:
        body = json.loads(raw) if isinstance(raw, bytes) else raw
    except ValueError:
        body = raw
    asked.fault = judge_problem(status, media_type, body)
    asked.outcome = str(body.get("type", "")).rpartition(":")[2] if isinstance(body, dict) else str(status)
    if asked.outcome == "internal-error":
        asked.fault = f"a defect of Sluice: {body}"
