"""What one hop through the stage runtime costs, next to the least that JetStream and nats-py ask for it.

    python -m benchmarks.hop [--out results.json]

Chains of trivial stages, each stage a process of its own, on one nats-server of the benchmark's own:

raw            nats-py alone: fetch, publish to the next queue with its acknowledgement, acknowledge
sluice         the stage runtime as it is
no-progress    without the event that tells the reader who has started
no-store-ack   forwarding without waiting for the broker's acknowledgement: a crash could lose the query
traced         with every span recorded and exported to nowhere

The systems take turns within each repetition. Figures are microseconds per hop: of throughput (time for all queries,
over queries times hops) and of latency (median time of one query, over hops).
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from shared import performer
from shared.envelope import Query, Stop
from shared.forward import forward
from shared.process import run_stage
from shared.reply import AnyEvent, Progress, Result, decode_event, reply_subject
from shared.service import PING, ServiceStatus
from shared.settings import QueueSettings
from shared.stage import Context
from shared.topology import Topology, query_subject

SLUICES = ("sluice", "no-progress", "no-store-ack", "traced")
SYSTEMS = ("raw", *SLUICES)
ROOM = 256
BINARY = Path(sys.executable).parent / "nats-server"

Ask = Callable[[], Awaitable[float]]
"""Send one query through a chain; returns its time in seconds."""


async def pass_on(query: Query, _: Context) -> Query:
    return query


# The stage processes -------------------------------------------------------------------------------------------------


class _Nowhere(SpanExporter):
    def export(self, _: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def run_sluice_stage(system: str, name: str) -> None:
    """One stage of a chain, with one promise taken away or added."""
    if system == "no-progress":
        send = performer.Performer._send

        async def send_all_but_progress(self: performer.Performer, query: Query, event: AnyEvent) -> None:
            if not isinstance(event, Progress):
                await send(self, query, event)

        performer.Performer._send = send_all_but_progress  # type: ignore[method-assign]
    if system == "no-store-ack":

        async def publish(jetstream: JetStreamContext, _: Topology, query: Query, **__: Any) -> None:
            await jetstream._nc.publish(query_subject(query), query.encode())

        performer.forward = publish  # type: ignore[assignment, attr-defined]
    if system == "traced":
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
        trace.set_tracer_provider(provider)
    run_stage(name, pass_on, room=ROOM)


async def run_raw_stage(url: str, hop: int, hops: int) -> None:
    """The floor: pull a batch, pass each message on with the broker's acknowledgement, acknowledge."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    subscription = await jetstream.pull_subscribe_bind(f"raw_{hop}", "RAW")

    async def work(message: Msg) -> None:
        reply = message.headers["reply"] if message.headers else ""
        if hop + 1 < hops:
            headers = {"reply": reply, "Nats-Msg-Id": f"{reply}:{hop}"}
            await jetstream.publish(f"raw.{hop + 1}", message.data, headers=headers)
        else:
            await client.publish(reply, message.data)
        await message.ack()

    await client.publish(f"rawready.{hop}", b"")
    async with asyncio.TaskGroup() as tasks:
        while True:
            try:
                for message in await subscription.fetch(ROOM, timeout=5):
                    tasks.create_task(work(message))
            except NatsTimeout:
                await client.publish(f"rawready.{hop}", b"")


# The driver ----------------------------------------------------------------------------------------------------------


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


async def measure(ask: Ask, queries: int, in_flight: int, hops: int) -> dict[str, float]:
    turns = asyncio.Semaphore(in_flight)

    async def one() -> float:
        async with turns:
            return await ask()

    began = time.perf_counter()
    latencies = await asyncio.gather(*(one() for _ in range(queries)))
    took = time.perf_counter() - began
    return {
        "throughput_us_per_hop": took / queries / hops * 1e6,
        "latency_us_per_hop": statistics.median(latencies) / hops * 1e6,
        "queries_per_second": queries / took,
    }


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
        url = start_broker(Path(folder), stack)
        client = await nats.connect(url)
        jetstream = client.jetstream()
        topology = Topology(jetstream, QueueSettings())
        await topology.ensure()
        await make_raw_queues(jetstream, hops)
        for system in SYSTEMS:
            for hop in range(hops):
                start_process(stack, [sys.executable, "-m", "benchmarks.hop", "--stage", f"{system}:{hop}:{hops}"], url)
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


def start_broker(folder: Path, stack: ExitStack) -> str:
    command: list[str | Path] = [
        BINARY,
        "-js",
        "-sd",
        folder / "store",
        "-a",
        "127.0.0.1",
        "-p",
        "-1",
        "-l",
        folder / "log",
    ]
    process = subprocess.Popen([*command, "--ports_file_dir", folder])
    stack.callback(process.wait)
    stack.callback(process.terminate)
    ports = folder / f"nats-server_{process.pid}.ports"
    while not (text := ports.read_text() if ports.exists() else ""):
        time.sleep(0.01)
    return str(json.loads(text)["nats"][0])


def machine() -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    server = subprocess.run([str(BINARY), "--version"], capture_output=True, text=True, check=True)
    return {
        "cpu": model[0].partition(": ")[2] if model else platform.processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "nats-server": server.stdout.strip(),
        **{name: version(name) for name in ("nats-py", "faststream", "pydantic", "uvloop")},
    }


def summary(runs: list[dict[str, float]], figure: str) -> dict[str, float]:
    values = [run[figure] for run in runs]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


async def compare(hops: int, queries: int, repetitions: int) -> dict[str, Any]:
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    async with running_chains(hops) as asks:
        for system, ask in asks.items():
            await measure(ask, 200, 32, hops)  # warm
            print(f"{system} answers", file=sys.stderr)
        for repetition in range(repetitions):
            for in_flight in (1, 32, 128):
                turn = repetition % len(SYSTEMS)
                for system in (*SYSTEMS[turn:], *SYSTEMS[:turn]):
                    ask = asks[system]
                    count = queries // 4 if in_flight == 1 else queries
                    runs.setdefault((system, in_flight), []).append(await measure(ask, count, in_flight, hops))
            print(f"repetition {repetition + 1} of {repetitions}", file=sys.stderr)
    figures = ("throughput_us_per_hop", "latency_us_per_hop", "queries_per_second")
    results = [
        {"system": system, "in_flight": in_flight} | {figure: summary(each, figure) for figure in figures}
        for (system, in_flight), each in sorted(runs.items(), key=lambda item: (item[0][1], SYSTEMS.index(item[0][0])))
    ]
    setup = {"hops": hops, "queries": queries, "repetitions": repetitions}
    return {"machine": machine(), "setup": setup, "results": results}


def show(report: dict[str, Any]) -> None:
    print(json.dumps({"machine": report["machine"], "setup": report["setup"]}, indent=2))
    print(f"{'in flight':>9}  {'system':<13} {'us/hop (min-max)':>24} {'latency us/hop':>15} {'queries/s':>10}")
    for row in report["results"]:
        spread = row["throughput_us_per_hop"]
        print(
            f"{row['in_flight']:>9}  {row['system']:<13} "
            f"{spread['median']:>9.0f} ({spread['min']:.0f}-{spread['max']:.0f})".ljust(49)
            + f"{row['latency_us_per_hop']['median']:>15.0f} {row['queries_per_second']['median']:>10.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="What one hop through the stage runtime costs.")
    parser.add_argument("--hops", type=int, default=3)
    parser.add_argument("--queries", type=int, default=1000, help="queries per measurement; a quarter at 1 in flight")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        system, hop, hops = arguments.stage.split(":")
        sys.argv[1:] = []
        if system == "raw":
            uvloop.run(run_raw_stage(os.environ["SLUICE_NATS_URL"], int(hop), int(hops)))
        run_sluice_stage(system, f"{system}-{hop}")
    report = uvloop.run(compare(arguments.hops, arguments.queries, arguments.repetitions))
    show(report)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
