"""What parallel branches of a pipeline cost, and whether each query is joined once: `python -m benchmarks.branches`"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop
from nats.aio.msg import Msg

from benchmarks import page, suite
from shared.contracts.envelope import Query, Stop
from shared.contracts.events import AnyEvent, Failed, Result, decode_event
from shared.contracts.graphs import resolved
from shared.contracts.graphs.written import read_pipelines
from shared.nats.client import Connection, connect
from shared.nats.settings import QueueSettings
from shared.nats.subjects import reply_subject
from shared.nats.topology import Topology
from shared.runtime.onward import Onward
from shared.runtime.options import DEFAULTS
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Parallel branches"
ABOUT = """\
A pipeline whose steps follow each other, and one whose steps are the branches of an ensemble, on a real broker with two
processes that serve the stage. *Empty* stages do nothing, so what is left is the cost: that of a branch is the time of
the ensemble less that of the same stages one after the other, over the number of branches, at 64 queries in flight.
*20 ms* stages wait, as for a model; there a query gets faster. For the last table queries of three branches go through
while the processes are killed with SIGKILL, one every few seconds at random, and started again. Each query is counted
by the messages that reached the stage after the ensemble."""

WORKERS: Final = 2
IN_FLIGHT: Final = 64
WAITING_MS: Final = 20
BRANCHES: Final = (2, 3, 5)

Steps = tuple[Stop, ...]


def steps(written: list[Any]) -> Steps:
    return read_pipelines({"pipelines": {"p": written}})["p"]


def chain(count: int) -> Steps:
    return steps(["work"] * count)


def ensemble(count: int, *after: str) -> Steps:
    branches = [{"name": f"b{number}", "then": ["work"]} for number in range(count)]
    return steps([{"ensemble": branches}, *after])


class _Answers:
    """The ends of queries, and the messages that a stage has had of each."""

    def __init__(self) -> None:
        self.collected: dict[str, set[int]] = {}
        self.failed: Counter[str] = Counter()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def expect(self, query_id: str) -> "asyncio.Future[None]":
        self._waiting[query_id] = asyncio.get_running_loop().create_future()
        return self._waiting[query_id]

    async def hear(self, message: Msg) -> None:
        query_id = message.subject.rpartition(".")[2]
        for event in map(decode_event, message.data.split(b"\n")):
            if event.stage == "collect":
                self.collected.setdefault(query_id, set()).add(event.message)
            if isinstance(event, Failed):
                self.failed[event.problem.type] += 1
            if isinstance(event, Result | Failed) and (waiting := self._waiting.pop(query_id, None)) is not None:
                waiting.set_result(None)


class _Unread:
    async def send(self, _: AnyEvent, /) -> bool:
        return True


class _Asker:
    def __init__(self, client: Connection, topology: Topology, answers: _Answers) -> None:
        self._onward = Onward(client.jetstream(), topology, DEFAULTS, room=0)
        self.answers = answers

    async def __call__(self, slip: Steps, work_ms: int = 0) -> float:
        """Send a query through, and return its seconds."""
        began, now, query_id = time.perf_counter(), time.time(), uuid.uuid4().hex
        query = Query(
            id=query_id,
            asked_at=now,
            deadline=now + 120,
            reply=reply_subject("bench", query_id),
            joined=True,
            slip=slip,
            question=str(work_ms or ""),
        )
        answer = self.answers.expect(query_id)
        await self._onward.begin(resolved(query), _Unread())
        await answer
        return time.perf_counter() - began


class _Stages:
    """The processes that serve stages, which may be killed and started again."""

    def __init__(self, url: str, folder: Path) -> None:
        self._start: Callable[[str, int], ServiceProcess] = lambda stage, number: ServiceProcess(
            "benchmarks.programs.branch_stage",
            folder / f"{stage}-{number}",
            nats_url=url,
            stage=stage,
            ack_wait=2.0,
            max_deliver=100,
            log_level="ERROR",
        )
        self._running: list[ServiceProcess] = []
        self._number = 0

    async def add(self, stage: str) -> None:
        self._number += 1
        process = self._start(stage, self._number)
        self._running.append(process)
        process.start()
        await asyncio.to_thread(process.wait_ready)

    async def replace_one(self, stage: str) -> None:
        """Kill one of the first `WORKERS`, and start another."""
        victim = self._running.pop(random.randrange(WORKERS))
        victim.kill()
        await self.add(stage)
        self._running.insert(0, self._running.pop())

    def stop(self) -> None:
        for process in self._running:
            process.kill()


@asynccontextmanager
async def _running() -> AsyncIterator[tuple[_Asker, _Stages]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(NatsServer(folder / "nats")).url
        client = await connect(url)
        stack.push_async_callback(client.close)
        topology = Topology(client.jetstream(), QueueSettings(ack_wait=2.0))
        await topology.ensure()
        stages = _Stages(url, folder)
        stack.callback(stages.stop)
        for stage in (*["work"] * WORKERS, "collect"):
            await stages.add(stage)
        answers = _Answers()
        await client.subscribe("reply.bench.*", cb=answers.hear)
        yield _Asker(client, topology, answers), stages


async def _rate(ask: _Asker, slip: Steps, queries: int, work_ms: int = 0) -> dict[str, float]:
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> float:
        async with turns:
            return await ask(slip, work_ms)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(queries)))
    busy = (time.perf_counter() - began) / queries * 1e6
    alone = statistics.median([await ask(slip, work_ms) for _ in range(max(20, queries // 20))]) * 1e6
    return {"us_per_query": busy, "us_alone": alone}


async def _costs(ask: _Asker, queries: int, repetitions: int) -> list[dict[str, Any]]:
    cases = [(ms, count) for ms in (0, WAITING_MS) for count in BRANCHES]
    runs: dict[tuple[int, int, str], list[dict[str, float]]] = {}
    await _rate(ask, ensemble(3), queries // 4)  # warm
    for number in range(repetitions):
        for ms, count in cases:
            for shape, slip in (("chain", chain(count)), ("ensemble", ensemble(count))):
                run = await _rate(ask, slip, queries if not ms else queries // 4, ms)
                runs.setdefault((ms, count, shape), []).append(run)
                suite.say(f"{number + 1}: {count} x {ms:>2} ms, {shape:<8} {run['us_alone']:8.0f} us alone")
    rows = []
    for ms, count in cases:
        pairs = list(zip(runs[ms, count, "chain"], runs[ms, count, "ensemble"], strict=True))
        cost = [(two["us_per_query"] - one["us_per_query"]) / count for one, two in pairs]
        rows.append(
            {"ms": ms, "branches": count, "us_per_branch": suite.spread(cost)}
            | {shape: suite.spread([each["us_alone"] for each in runs[ms, count, shape]]) for shape in SHAPES}
        )
    return rows


SHAPES: Final = ("chain", "ensemble")


async def _killed(ask: _Asker, stages: _Stages, queries: int, pause: float) -> dict[str, Any]:
    """Queries of three branches, with kills meanwhile."""
    slip, turns, kills = ensemble(3, "collect"), asyncio.Semaphore(IN_FLIGHT), 0
    ask.answers.collected.clear()
    over = asyncio.Event()

    async def kill() -> None:
        nonlocal kills
        while not over.is_set():
            await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
            if not over.is_set():
                await stages.replace_one("work")
                kills += 1

    async def one() -> None:
        async with turns:
            await ask(slip)

    killing = asyncio.create_task(kill())
    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(queries)))
    took = time.perf_counter() - began
    over.set()
    await killing
    messages = Counter(len(each) for each in ask.answers.collected.values())
    return {
        "queries": queries,
        "kills": kills,
        "seconds": took,
        "joined_once": messages[1],
        "joined_twice": sum(count for times, count in messages.items() if times > 1),
        "lost": queries - len(ask.answers.collected),
        "failed": sum(ask.answers.failed.values()),
    }


async def _measure(queries: int, repetitions: int, chaos: int, pause: float) -> dict[str, Any]:
    async with _running() as (ask, stages):
        rows = await _costs(ask, queries, repetitions)
        return {"rows": rows, "chaos": await _killed(ask, stages, chaos, pause)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queries", type=int, default=2000, help="queries per measurement")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--chaos", type=int, default=20_000, help="queries beside the kills")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two kills, on average")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.queries, arguments.repetitions, arguments.chaos = 200, 1, 500
    return uvloop.run(_measure(arguments.queries, arguments.repetitions, arguments.chaos, arguments.pause))


def table(results: dict[str, Any]) -> str:
    lines = [
        "| stages | one after the other, alone (ms) | as branches, alone (ms) | cost of a branch under load (µs) |",
        "|---|---:|---:|---:|",
    ]
    for row in results["rows"]:
        work = f"{row['ms']} ms" if row["ms"] else "empty"
        times = [suite.show({k: v / 1e3 for k, v in row[shape].items()}, ",.1f") for shape in SHAPES]
        cost = suite.show(row["us_per_branch"]) if not row["ms"] else "-"
        lines.append(f"| {row['branches']} x {work} | {' | '.join(times)} | {cost} |")
    chaos = results["chaos"]
    lines += [
        "",
        "| queries of three branches | kills | joined once | joined twice | lost | failed |",
        "|---:|---:|---:|---:|---:|---:|",
        f"| {chaos['queries']:,} in {chaos['seconds']:,.0f} s | {chaos['kills']} | {chaos['joined_once']:,} "
        f"| {chaos['joined_twice']} | {chaos['lost']} | {chaos['failed']} |",
    ]
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    chaos = results["chaos"]
    met = chaos["joined_once"] == chaos["queries"] and not chaos["failed"]
    found = f"{chaos['joined_once']:,} of {chaos['queries']:,} beside {chaos['kills']} kills"
    return [suite.Target("every query of three branches joined exactly once", found, met)]


def plot(results: dict[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    labels = [f"{row['branches']} x {row['ms']} ms" for row in results["rows"]]
    width = 0.4
    for place, (shape, label) in enumerate((("chain", "one after the other"), ("ensemble", "as branches"))):
        spans = [row[shape] for row in results["rows"]]
        at = [number + (place - 0.5) * width for number in range(len(labels))]
        medians = [span["median"] / 1e3 for span in spans]
        errors = [
            [(span["median"] - span["min"]) / 1e3 for span in spans],
            [(span["max"] - span["median"]) / 1e3 for span in spans],
        ]
        axes.bar(at, medians, width, yerr=errors, label=label, color=page.COLOURS[place], error_kw={"elinewidth": 0.8})
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds of a query alone")
    axes.grid(visible=False, axis="x")
    axes.legend()


if __name__ == "__main__":
    suite.main()
