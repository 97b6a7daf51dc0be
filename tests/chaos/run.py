"""One run: start the platform, put load on it, let faults come, and see whether users got what they rely on."""

import asyncio
import json
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tests.chaos.bounds import Base, check_growth, drained, look
from tests.chaos.deployment import Deployment, Shape, running
from tests.chaos.fault_injector import FaultInjector, healthy
from tests.chaos.load import Load, enrol
from tests.chaos.oracle import Oracle, Trouble
from tests.chaos.plan import Fault, Kind, Layout, Round, rounds
from tests.chaos.query_client import Balancer, QueryClient
from tests.chaos.real_load import RealLoad

__all__ = ["Options", "chaos"]

RECOVERY: Final = 60.0
"""Seconds in which the platform must be well again after a fault."""

LOOK: Final = 0.05
WARM: Final = 200
"""Queries before the first look at memory and open files: what is loaded late is loaded by then."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is to be. It ends after `minutes`, or after `most_rounds`, whichever is first."""

    seed: int
    minutes: float
    kinds: tuple[Kind, ...]
    shape: Shape
    clients: int = 32
    most_rounds: int | None = None
    longest: float = 20.0


@dataclass
class Journal:
    """What happened when, in seconds since the start; also as a file, line by line."""

    file: Path
    began: float = field(default_factory=time.monotonic)

    def told(self, what: str, **more: Any) -> None:
        line = {"at": round(time.monotonic() - self.began, 3), "what": what, **more}
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")


def chaos(options: Options, folder: Path) -> dict[str, Any]:
    """Run, and return the results. Everything that was started is ended, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / "events.jsonl")
    with running(folder, options.shape, journal.told) as deployment:
        journal.told("ready")
        return asyncio.run(_Run(options, deployment, journal, folder).go())


class _Run:
    def __init__(self, options: Options, deployment: Deployment, journal: Journal, folder: Path) -> None:
        self._folder = folder
        self._options = options
        self._deployment = deployment
        self._journal = journal
        self._oracle = Oracle()
        self._faults: list[dict[str, Any]] = []
        self._unrecovered = False

    async def go(self) -> dict[str, Any]:
        balancer = Balancer(self._deployment.gateways)
        query_client = self._query_client = QueryClient(balancer, self._oracle, await enrol(self._deployment))
        kind = RealLoad if self._options.shape.real else Load
        load = self._load = kind(query_client, self._oracle, self._options.seed, self._options.clients)
        load.index = self._folder / "index"
        injector = FaultInjector(self._deployment, query_client, load, self._options.seed)
        watching = [asyncio.create_task(balancer.watch()), asyncio.create_task(self._watch_lag())]
        try:
            await load.prepare()
            await self._warm_up(query_client, load)
            before = await look(self._deployment)
            self._journal.told("load begins")
            began = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run())
                await self._strike_all(injector)
                load.stop()
            seconds = time.monotonic() - began
            self._journal.told("load has ended")
            return await self._judge(injector, before, seconds)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            balancer.close()

    async def _warm_up(self, query_client: QueryClient, load: Load) -> None:
        async with asyncio.timeout(120):
            while not await healthy(self._deployment, query_client, load):  # noqa: ASYNC110  (others say it)
                await asyncio.sleep(LOOK)
        await asyncio.gather(*(query_client.ask(load.question("a", "red"), "red", "plain", 30.0) for _ in range(WARM)))

    async def _strike_all(self, injector: FaultInjector) -> None:
        layout = Layout(
            services=tuple(self._deployment.members), nodes=tuple(node.name for node in self._deployment.nodes)
        )
        end = time.monotonic() + self._options.minutes * 60
        planned = rounds(self._options.seed, self._options.kinds, layout, longest=self._options.longest)
        for turn in islice(planned, self._options.most_rounds):
            if time.monotonic() > end or self._unrecovered:
                return
            await asyncio.sleep(turn.pause)
            await self._round(injector, turn)

    async def _round(self, injector: FaultInjector, turn: Round) -> None:
        self._query_client.round = turn.number
        over: dict[Fault, float] = {}
        began = time.monotonic()

        async def one(fault: Fault) -> None:
            self._journal.told("fault", round=turn.number, **fault.describe())
            await injector.inject(fault)
            over[fault] = time.monotonic()
            self._journal.told("fault is over", round=turn.number, kind=fault.kind, target=fault.target)

        async with asyncio.TaskGroup() as tasks:
            for fault in turn.faults:
                tasks.create_task(one(fault))
        recovery = await self._recovered(max(over.values()))
        ended = time.monotonic()
        for fault in turn.faults:
            self._oracle.troubles.append(Trouble(fault.kind, fault.target, began, over[fault], ended))
            self._faults.append({"round": turn.number, **fault.describe(), "recovery": round(recovery, 3)})
        self._journal.told("well again", round=turn.number, seconds=round(recovery, 3))

    async def _recovered(self, since: float) -> float:
        """Seconds from the end of the faults until all is well."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY):
                while not await healthy(self._deployment, self._query_client, self._load):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK)
                return time.monotonic() - since
        self._unrecovered = True
        self._oracle.accuse(f"not well again {RECOVERY:g} s after the faults of round {self._query_client.round}")
        return time.monotonic() - since

    async def _watch_lag(self) -> None:
        """Note where this process could not look for a while: what came meanwhile seems late."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            if (late := time.monotonic() - before - 0.1) > 0.1:
                self._oracle.lag.append((time.monotonic(), late))

    async def _judge(self, injector: FaultInjector, before: Base, seconds: float) -> dict[str, Any]:
        url = next(node.url for node in self._deployment.nodes)
        empty, held = await drained(url)
        if not empty:
            self._oracle.accuse(f"something is stuck on the broker: {held}")
        wrong, jobs = await self._load.check(url)
        after = await look(self._deployment)
        grown = await asyncio.to_thread(check_growth, self._deployment, before, after)
        found = self._oracle.judge() + wrong + grown
        self._journal.told("judged", wrong=found[:100])
        _affected(self._oracle, self._faults)
        return {
            "seed": self._options.seed,
            "seconds": round(seconds, 1),
            "nodes": len(self._deployment.nodes),
            "real": self._options.shape.real,
            "faults": self._faults,
            "skipped": injector.skipped,
            "duplicates": injector.duplicates,
            "queries": _queries(self._oracle),
            "jobs": {**jobs, "acceptance": _spread(self._load.times)},
            "restarts": {name: member.starts - 1 for name, member in self._deployment.members.items()},
            "broker": {"held": held, "subscriptions": [before.subscriptions, after.subscriptions]},
            "memory_mb": _memory(before, after),
            "wrong": found,
        }


def _memory(before: Base, after: Base) -> dict[str, list[float]]:
    """Megabytes of each process before and after."""
    return {
        name: [round(before.usage.get(name, now)["rss_mb"], 1), round(now["rss_mb"], 1)]
        for name, now in after.usage.items()
    }


def _queries(oracle: Oracle) -> dict[str, Any]:
    answered = [asked for asked in oracle.asked if asked.outcome == "answer"]
    return {
        "asked": len(oracle.asked),
        "outcomes": dict(oracle.outcomes.most_common()),
        "latency": _spread([asked.seconds for asked in answered]),
        "latest": round(oracle.lateness(), 3),
    }


def _affected(oracle: Oracle, faults: list[dict[str, Any]]) -> None:
    """Note with each fault how the queries ended that were under way between its beginning and the recovery from it."""
    ordered = sorted(oracle.asked, key=lambda asked: asked.sent)
    starts = [asked.sent for asked in ordered]
    for fault, trouble in zip(faults, oracle.troubles, strict=True):
        # None takes longer than its time-out and the time for which it may hang.
        first, last = bisect_left(starts, trouble.began - 90.0), bisect_right(starts, trouble.ended)
        met = (asked for asked in ordered[first:last] if trouble.meets(asked.sent, asked.ended))
        fault["queries"] = dict(Counter(asked.outcome for asked in met if asked.kind != "probe"))


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Seconds: median, 99th percentile, most."""
    if not values:
        return {}
    ordered = sorted(values)
    places = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) for name, share in places.items()}
