"""Carries out faults: each begins, lasts, and is over; then the platform must be well again."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.chaos.client_faults import duplicates, flood, poison_queries, slow_readers
from tests.chaos.deployment import Deployment
from tests.chaos.load import PROBE, Load
from tests.chaos.nodes import Node
from tests.chaos.old_broker import OLD_BROKER
from tests.chaos.plan import Fault, Kind
from tests.chaos.query_client import QueryClient, is_ready

__all__ = ["FaultInjector", "healthy"]

DOWN: Final = 3.0
"""Seconds at most for which what was killed stays down."""

POWER_MOUNT: Final = "noatime,commit=600,noauto_da_alloc"
"""Nothing that is not synced gets to the disk."""

PROBE_TIMEOUT: Final = 5.0
BLOCK: Final = 64 * 2**10


class FaultInjector:
    """Does the faults of a plan to a fleet. `skipped` says what cannot be done here, and why."""

    def __init__(self, deployment: Deployment, query_client: QueryClient, load: Load, seed: int) -> None:
        self._deployment = deployment
        self._query_client = query_client
        self._load = load
        self._seed = seed
        self.skipped: dict[str, str] = {}
        self.duplicates = 0
        self._ways: dict[Kind, Callable[[Fault], Awaitable[None]]] = {
            Kind.KILL: self._kill,
            Kind.TERM: self._term,
            Kind.STOP: self._stop,
            Kind.CUT: self._link,
            Kind.HOLE: self._link,
            Kind.DELAY: self._link,
            Kind.SKEW: self._skew,
            Kind.BROKER_KILL: self._broker_down,
            Kind.BROKER_RESTART: self._broker_down,
            Kind.BROKER_STOP: self._broker_stop,
            Kind.BROKER_CUT: self._broker_cut,
            Kind.BROKER_POWER: self._broker_power,
            Kind.BROKER_REPLACED: self._broker_replaced,
            Kind.BROKER_VERSION: self._broker_version,
            Kind.DISK_FULL: self._disk_full,
            Kind.SLOW_READER: lambda _: slow_readers(self._query_client, self._load),
            Kind.FLOOD: lambda _: flood(self._query_client, self._load),
            Kind.DUPLICATES: self._duplicates,
            Kind.POISON_QUERY: lambda _: poison_queries(self._query_client, self._load, deadly=False),
            Kind.DEADLY_QUERY: lambda _: poison_queries(self._query_client, self._load, deadly=True),
            Kind.POISON_JOB: lambda _: self._load.submit_poison(),
        }

    async def inject(self, fault: Fault) -> None:
        """Do one fault, from its beginning to its end."""
        await self._ways[fault.kind](fault)

    async def _kill(self, fault: Fault) -> None:
        member = self._deployment.members[fault.target]
        await asyncio.to_thread(member.end, signal.SIGKILL)
        try:
            await asyncio.sleep(min(fault.seconds, DOWN))
        finally:
            member.start()

    async def _term(self, fault: Fault) -> None:
        member = self._deployment.members[fault.target]
        code = await asyncio.to_thread(member.end, signal.SIGTERM)
        member.start()
        if code not in (0, None):
            self._query_client.oracle.accuse(f"{member.name} ended with {code} after SIGTERM")

    async def _stop(self, fault: Fault) -> None:
        member = self._deployment.members[fault.target]
        member.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            member.signal(signal.SIGCONT)

    async def _link(self, fault: Fault) -> None:
        await self._turned(self._deployment.links.of(fault.target), fault)

    async def _broker_cut(self, fault: Fault) -> None:
        await self._turned(self._deployment.links.to(fault.target), fault)

    async def _turned(self, names: list[str], fault: Fault) -> None:
        mode = {Kind.HOLE: "hole", Kind.DELAY: "delay"}.get(fault.kind, "cut")
        await asyncio.to_thread(self._deployment.links.turn, names, mode, fault.size)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._deployment.links.turn(names, "open")

    async def _skew(self, fault: Fault) -> None:
        member = self._deployment.members[fault.target]
        await asyncio.to_thread(member.end, signal.SIGTERM)
        member.start(skew=fault.size)
        try:
            await asyncio.to_thread(member.wait_ready, 60.0)
            await asyncio.sleep(fault.seconds)
        finally:
            await asyncio.to_thread(member.end, signal.SIGTERM)
            member.start()

    async def _broker_down(self, fault: Fault) -> None:
        node = self._deployment.node(fault.target)
        node.held = True
        number = signal.SIGKILL if fault.kind is Kind.BROKER_KILL else signal.SIGTERM
        try:
            await asyncio.to_thread(node.stop, number)
            if fault.kind is Kind.BROKER_KILL:
                await asyncio.sleep(min(fault.seconds, DOWN))
        finally:
            node.start()
            node.held = False

    async def _broker_stop(self, fault: Fault) -> None:
        node = self._deployment.node(fault.target)
        node.held = True
        node.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            node.send(signal.SIGCONT)
            node.held = False

    async def _broker_power(self, fault: Fault) -> None:
        node = self._deployment.node(fault.target)
        if node.disk is None:
            self.skipped[fault.kind] = "this process may not mount a file system whose power can fail"
            return
        node.held = True
        try:
            node.freeze()
            node.disk.cut()
            await asyncio.to_thread(node.stop)
            await asyncio.to_thread(node.disk.restore, POWER_MOUNT)
            await asyncio.sleep(min(fault.seconds, DOWN))
        finally:
            node.start()
            node.held = False

    async def _broker_replaced(self, fault: Fault) -> None:
        """A node of a cluster is lost with its disk, and one of its name comes with an empty disk."""
        if len(self._deployment.nodes) == 1:
            self.skipped[fault.kind] = "a single broker has its streams nowhere else"
            return
        node = self._deployment.node(fault.target)
        node.held = True
        try:
            await asyncio.to_thread(node.stop)
            await asyncio.sleep(min(fault.seconds, DOWN))
            await asyncio.to_thread(node.lose_store)
        finally:
            node.start()
            node.held = False

    async def _broker_version(self, fault: Fault) -> None:
        """A node goes back to an older release, and then forward again."""
        if not OLD_BROKER.exists():
            self.skipped[fault.kind] = "there is no older nats-server: run python -m tests.chaos.old_broker"
            return
        node = self._deployment.node(fault.target)
        usual, node.held = node.program, True
        try:
            await asyncio.to_thread(node.stop, signal.SIGTERM)
            node.program = OLD_BROKER
            node.start()
            await asyncio.to_thread(node.wait)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(node.stop, signal.SIGTERM)
        finally:
            node.program = usual
            node.start()
            node.held = False

    async def _disk_full(self, fault: Fault) -> None:
        node = self._deployment.node(fault.target)
        if not await asyncio.to_thread(os.path.ismount, node.store):
            self.skipped[fault.kind] = "this process may not mount a small file system for the broker's store"
            return
        filler = node.store / "filler"
        try:
            await self._fill(filler, fault.seconds)
        finally:
            filler.unlink(missing_ok=True)

    async def _fill(self, filler: Path, seconds: float) -> None:
        """Take all room that there is, also what the broker gives back meanwhile."""
        over = time.monotonic() + seconds
        with filler.open("wb", buffering=0) as file:
            while time.monotonic() < over:
                try:
                    file.write(bytes(BLOCK))
                except OSError:
                    await asyncio.sleep(0.05)

    async def _duplicates(self, fault: Fault) -> None:
        url = self._up().url
        self.duplicates += await duplicates(url, fault.seconds, self._seed)

    def _up(self) -> Node:
        return next(
            (node for node in self._deployment.nodes if node.running and not node.held), self._deployment.nodes[0]
        )


async def healthy(deployment: Deployment, query_client: QueryClient, load: Load) -> bool:
    """Whether all is as it should be: each node and service says so, and each gateway answers a query."""
    for node in deployment.nodes:
        if not await asyncio.to_thread(node.healthy):
            return False
    if not all(await asyncio.gather(*(is_ready(member.port) for member in deployment.members.values()))):
        return False
    for gateway in deployment.gateways:
        question = load.question("a", PROBE)
        asked = await query_client.ask(question, PROBE, "probe", PROBE_TIMEOUT, gateway=gateway.name)
        if asked.outcome != "answer":
            return False
    return True
