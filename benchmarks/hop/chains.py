"""Chains of trivial stages, each a process of its own, on a broker of the benchmark's own; and how to ask them."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from benchmarks.programs.hop_stages import SLUICES, SYSTEMS
from shared.contracts.envelope import Query, Stop
from shared.contracts.events import Result, decode_event
from shared.nats.settings import QueueSettings
from shared.nats.subjects import reply_subject
from shared.nats.topology import Topology
from shared.runtime.forward import forward
from shared.service.service import PING, ServiceStatus
from tests.harness.broker import NatsServer

__all__ = ["Ask", "running_chains"]

Ask = Callable[[], Awaitable[float]]
"""Send one query through a chain; returns its time in seconds."""


class Answers:
    """Waits for the answer to each query on one wildcard subscription."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def expect(self, query_id: str) -> "asyncio.Future[None]":
        self._waiting[query_id] = asyncio.get_running_loop().create_future()
        return self._waiting[query_id]

    async def hear(self, message: Msg) -> None:
        if b'"progress"' in message.data[:200] and not isinstance(decode_event(message.data), Result):
            return
        self._waiting.pop(message.subject.rpartition(".")[2]).set_result(None)


def sluice_asker(jetstream: JetStreamContext, topology: Topology, answers: Answers, system: str, hops: int) -> Ask:
    slip = tuple(Stop(stage=f"{system}-{hop}") for hop in range(hops))

    async def ask() -> float:
        began, now, query_id = time.perf_counter(), time.time(), uuid.uuid4().hex
        reply = reply_subject("bench", query_id)
        query = Query(id=query_id, asked_at=now, deadline=now + 60, reply=reply, slip=slip, question="x" * 200)
        answer = answers.expect(query_id)
        await forward(jetstream, topology, query)
        await answer
        return time.perf_counter() - began

    return ask


def raw_asker(jetstream: JetStreamContext, answers: Answers) -> Ask:
    async def ask() -> float:
        began, query_id = time.perf_counter(), uuid.uuid4().hex
        reply = reply_subject("bench", query_id)
        answer = answers.expect(query_id)
        await jetstream.publish("raw.0", b"x" * 500, headers={"reply": reply, "Nats-Msg-Id": query_id})
        await answer
        return time.perf_counter() - began

    return ask


async def make_raw_queues(jetstream: JetStreamContext, hops: int) -> None:
    await jetstream.add_stream(
        StreamConfig(
            name="RAW",
            subjects=["raw.*"],
            storage=StorageType.MEMORY,
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_age=300,
            duplicate_window=120,
        )
    )
    for hop in range(hops):
        config = ConsumerConfig(
            durable_name=f"raw_{hop}", filter_subject=f"raw.{hop}", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=65536
        )
        await jetstream.add_consumer("RAW", config)


async def wait_for_stages(client: Client, hops: int) -> None:
    """Until every stage process says that it is ready."""
    ready: set[str] = set()
    inbox = client.new_inbox()

    async def hear(message: Msg) -> None:
        if message.subject.startswith("rawready."):
            ready.add(message.subject)
        elif message.data and (status := ServiceStatus.model_validate_json(message.data)).ready:
            ready.add(status.service)

    await client.subscribe(inbox, cb=hear)
    await client.subscribe("rawready.*", cb=hear)
    deadline = time.monotonic() + 120
    while len(ready) < hops * len(SYSTEMS):
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {sorted(ready)} became ready")
        await client.publish(PING, b"", reply=inbox)
        await asyncio.sleep(0.2)


@asynccontextmanager
async def running_chains(hops: int) -> AsyncIterator[dict[str, Ask]]:
    """A broker, every system's stage processes, and how to ask each."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        url = stack.enter_context(NatsServer(Path(folder) / "nats")).url
        client = await nats.connect(url)
        jetstream = client.jetstream()
        topology = Topology(jetstream, QueueSettings())
        await topology.ensure()
        await make_raw_queues(jetstream, hops)
        for system in SYSTEMS:
            for hop in range(hops):
                command = [sys.executable, "-m", "benchmarks.programs.hop_stages", system, str(hop), str(hops)]
                start_process(stack, command, url)
        await wait_for_stages(client, hops)
        answers = Answers()
        await client.subscribe("reply.bench.*", cb=answers.hear)
        asks = {system: sluice_asker(jetstream, topology, answers, system, hops) for system in SLUICES}
        yield {"raw": raw_asker(jetstream, answers)} | asks
        await client.close()


def start_process(stack: ExitStack, command: list[str], url: str) -> None:
    environment = {**os.environ, "SLUICE_NATS_URL": url, "SLUICE_LOG_LEVEL": "ERROR"}
    process = subprocess.Popen(command, env=environment)
    stack.callback(process.wait)
    stack.callback(process.terminate)
