"""A real broker, a real gateway that asks for keys, and as many replicas of constant stages as asked for."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import nats

from benchmarks import suite
from benchmarks.load import post
from services.gateway.keys.store import Keys
from shared.contracts.keys import Action, ApiKey, Secret, hashed, new_key
from shared.stores.collections import Collections
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

__all__ = ["STAGES", "Platform", "running"]

STAGES: Final = ("embed", "retrieve", "generate")
SLOW_MS: Final = 50
QUICK_MS: Final = 1
ADMIN: Final = "admin-key-of-the-benchmark-0123456789abcdef"


def pipelines() -> str:
    """`even` has no slow stage; in `slow-<stage>` that stage works for longer than all others."""
    found = {"even": dict.fromkeys(STAGES, QUICK_MS)}
    found |= {f"slow-{slow}": {s: SLOW_MS if s == slow else QUICK_MS for s in STAGES} for slow in STAGES}
    slips = {name: [{"stage": s, "params": {"ms": ms}} for s, ms in each.items()] for name, each in found.items()}
    return json.dumps({"pipelines": slips})


@dataclass
class Platform:
    """What runs. `keys` are the written keys of tenants 0, 1, ...; each tenant has a collection called `docs`."""

    folder: Path
    stack: ExitStack
    broker: NatsServer
    gateway: ServiceProcess
    settings: dict[str, object]
    keys: list[str] = field(default_factory=list)
    replicas: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))

    @property
    def url(self) -> str:
        return f"{self.gateway.url}/v1/query"

    def add(self, room: int, stages: tuple[str, ...] = STAGES) -> None:
        """One replica more of each of the stages."""
        fresh = []
        for stage in stages:
            self.replicas[stage] += 1
            folder = self.folder / f"{stage}-{self.replicas[stage]}"
            settings = {**self.settings, "stage": stage, "room": room}
            process = ServiceProcess("benchmarks.growth.stage", folder, **settings)
            process.start()
            self.stack.push(process.__exit__)
            fresh.append(process)
        for process in fresh:
            process.wait_ready()

    async def add_tenants(self, up_to: int) -> None:
        """Give tenants their keys and collections, and wait until the gateway knows them; every stage has a replica."""
        if up_to <= len(self.keys):
            return
        client = await nats.connect(self.broker.url)
        jetstream = client.jetstream()
        keys, collections = Keys(jetstream), Collections(jetstream)
        for number in range(len(self.keys), up_to):
            tenant = f"tenant-{number}"
            key, written = new_key()
            secret = (Secret(sha256=hashed(written)),)
            record = ApiKey(
                id=key,
                name=tenant,
                tenant=tenant,
                actions=frozenset({Action.QUERY}),
                created_at=0,
                secrets=secret,
            )
            await collections.create(tenant, "docs")
            await keys.create(record)
            self.keys.append(written)
        await client.close()
        request = self.request(up_to - 1, "even")
        deadline = asyncio.get_running_loop().time() + 30
        while (await suite.load(self.url, [request], concurrent=1)).failed:
            assert asyncio.get_running_loop().time() < deadline, "the gateway does not know the last tenant"

    def request(self, tenant: int, pipeline: str) -> bytes:
        """A question as it goes over the wire."""
        body = json.dumps({"question": "What is there?", "collection": "docs", "pipeline": pipeline, "timeout": 60})
        return post(self.url, body.encode(), headers={"Authorization": f"Bearer {self.keys[tenant]}"})


@contextmanager
def running(**settings: object) -> Iterator[Platform]:
    """A broker and a gateway, without stages; `settings` are for all services."""
    with tempfile.TemporaryDirectory() as path, ExitStack() as stack:
        folder = Path(path)
        (folder / "pipelines.json").write_text(pipelines())
        broker = stack.enter_context(NatsServer(folder / "nats"))
        given = {"nats_url": broker.url, "log_level": "ERROR", **settings}
        own = {"pipelines": folder / "pipelines.json", "admin_key": ADMIN}
        gateway = stack.enter_context(ServiceProcess("services.gateway", folder, **given, **own))
        yield Platform(folder, stack, broker, gateway, given)
