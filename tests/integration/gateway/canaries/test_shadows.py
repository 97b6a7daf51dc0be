"""Copies of questions for a version in the shadow, through a real gateway: counted, bounded, and seen by nobody."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from shared.contracts.canaries import CanaryCounts
from shared.contracts.collections import Collection, VersionCanary, VersionState
from shared.contracts.envelope import Lane, Query
from shared.contracts.events import Usage
from shared.contracts.graphs.resolve import SHADOW_OF
from shared.runtime.stage import Context, Process
from shared.stores.canaries import CanaryStore
from shared.stores.collections import Collections
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import StageHarness, until
from tests.harness.stages import ALL, Stages, answer_with

pytestmark = pytest.mark.anyio

JOB = "job-1"
LIVE = answer_with("Hello ", "world")


class Platform:
    """A gateway with a collection whose version `v2` is in the shadow of `v1`, and what can be asked of it."""

    def __init__(self, http: httpx.AsyncClient, gateway: ServiceProcess, stages: Stages, harness: StageHarness) -> None:
        self.http = http
        self.gateway = gateway
        self.stages = stages
        self._harness = harness

    async def ask(self, **request: Any) -> dict[str, Any]:
        response = await self.http.post("/v1/query", json={"question": "What?"} | request)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def shadow(self, percent: float) -> None:
        """Have so many percent of the questions copied, and return when the gateway goes by it."""
        collections = Collections(self._harness.jetstream)

        def shadowed(now: Collection) -> Collection:
            second = now.live.model_copy(update={"name": "v2", "state": VersionState.FOLLOWING, "table": "second"})
            canary = VersionCanary(version="v2", percent=0, shadow=percent, job=JOB, until=time.time() + 3600)
            return (now if now.find("v2") else now.adding(second)).model_copy(update={"canary": canary})

        await collections.update(await collections.get("default", "default"), shadowed)

        async def in_force() -> bool:
            canary = (await self.http.get("/v1/collections/default")).json()["canary"]
            return canary is not None and canary["shadow"] == percent

        await until(in_force, "the shadow")

    async def counts(self) -> CanaryCounts:
        """What is written of the canary."""
        return await CanaryStore(self._harness.jetstream).total("default", JOB)

    def copies(self, stage: str = "generate") -> list[Query]:
        return [query for query in self.stages.given[stage] if SHADOW_OF in query.notes]


@asynccontextmanager
async def platform(
    broker: NatsServer, harness: StageHarness, folder: Path, *, copy: Process = LIVE, **settings: Any
) -> AsyncIterator[Platform]:
    """All stages; the generator does `copy` with copies."""
    stages = Stages(broker.url)

    async def generate(query: Query, context: Context) -> Query | None:
        return await (copy if SHADOW_OF in query.notes else LIVE)(query, context)

    stages.does["generate"] = generate
    with ServiceProcess("services.gateway", folder, nats_url=broker.url, **settings) as gateway:
        async with (
            httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as http,
            stages.running((*ALL, "condense")),
        ):
            (await http.post("/v1/collections", json={"name": "default"})).raise_for_status()
            made = Platform(http, gateway, stages, harness)
            await made.shadow(100)
            yield made


async def test_a_copy_asks_the_other_version_on_the_batch_lane_and_the_reader_gets_the_live_one(
    own_broker: NatsServer, harness: StageHarness, tmp_path: Path
) -> None:
    async with platform(own_broker, harness, tmp_path, copy=answer_with("Not this")) as it:
        answer = await it.ask(question="Wann?")
        await it.stages.arrived("generate", 2)
        (copy,), (live,) = it.copies(), [query for query in it.stages.given["generate"] if not query.notes]
    assert (answer["answer"], answer["collection_version"]) == ("Hello world", "v1")
    assert (live.lane, live.collection_version, live.id) == (Lane.INTERACTIVE, "v1", answer["id"])
    assert (copy.lane, copy.collection, copy.collection_version) == (Lane.BATCH, "second", "v2")
    assert (copy.question, copy.principals, copy.deadline) == (live.question, live.principals, live.deadline)
    assert copy.notes == {SHADOW_OF: live.id}


async def test_a_copy_looks_where_its_reader_may_look_and_says_what_they_have_said(
    own_broker: NatsServer, harness: StageHarness, tmp_path: Path
) -> None:
    secret = "a secret of the application, which signs who asks"
    token = jwt.encode({"sub": "alice", "groups": ["sales"], "exp": time.time() + 600}, secret, algorithm="HS256")
    body = {"question": "And then?", "messages": [{"role": "user", "content": "First?"}], "filter": {"team": "sales"}}
    async with platform(own_broker, harness, tmp_path, identity_secret=secret) as it:
        headers = {"X-Sluice-Identity": token}
        (await it.http.post("/v1/query", json=body, headers=headers)).raise_for_status()
        await it.stages.arrived("retrieve", 2)
        live, copy = sorted(it.stages.given["retrieve"], key=lambda query: query.lane is Lane.BATCH)
    assert (copy.collection, copy.tenant) == ("second", live.tenant)
    assert "user:alice" in copy.principals
    assert (copy.principals, copy.messages, copy.slip) == (live.principals, live.messages, live.slip)
    assert copy.stop.params["filter"] == live.stop.params["filter"] == {"team": "sales"}


async def test_what_is_counted_is_written_when_the_gateway_stops(
    own_broker: NatsServer, harness: StageHarness, tmp_path: Path
) -> None:
    async with platform(own_broker, harness, tmp_path) as it:
        for _ in range(5):
            await it.ask()
        assert await asyncio.to_thread(it.gateway.stop) == 0
        assert (await it.counts()).of("v1").answered == 5


async def test_a_copy_of_whose_answer_a_part_is_lost_does_not_count(
    own_broker: NatsServer, harness: StageHarness, tmp_path: Path
) -> None:
    async def loses_a_part(query: Query, context: Context) -> None:
        if query.question == "Lost?":
            await context.delta("Not ")
            context._deltas += 1
            await context.delta("this")
        await context.done(usage=Usage(), engine="quoting")

    async with platform(own_broker, harness, tmp_path, copy=loses_a_part) as it:
        await it.ask(question="Lost?")
        await it.stages.arrived("generate", 2)
        await it.ask()

        async def counted() -> bool:
            return (await it.counts()).of("v2").asked > 0

        await until(counted, "the second copy")
        counts, metrics = (await it.counts()).of("v2"), (await it.http.get("/metrics")).text
    assert (counts.answered, counts.failed) == (1, 0)
    for outcome in ("answered", "broker-unavailable"):
        assert f'sluice_canary_copies_total{{outcome="{outcome}"}} 1.0' in metrics


async def test_copies_take_turns_with_lines_of_batches_where_these_wait_and_only_few_wait(
    own_broker: NatsServer, harness: StageHarness, tmp_path: Path
) -> None:
    enough = asyncio.Event()

    async def waits(query: Query, context: Context) -> None:
        await enough.wait()
        await LIVE(query, context)

    async with platform(own_broker, harness, tmp_path, copy=waits, batch_yields=True) as it:
        for _ in range(8):
            assert (await it.ask())["answer"] == "Hello world"
        assert len(it.copies("embed")) <= 2
        enough.set()

        async def counted() -> bool:
            return (await it.counts()).of("v2").answered >= 4

        await until(counted, "four copies")
        assert len(it.copies()) == 4
        assert 'sluice_canary_copies_total{outcome="skipped"} 4.0' in (await it.http.get("/metrics")).text


async def test_a_version_that_hangs_holds_up_no_reader_and_its_late_copies_do_not_count(
    own_broker: NatsServer, harness: StageHarness, tmp_path: Path
) -> None:
    async def hangs(_: Query, context: Context) -> None:
        await context.delta("Not this")
        await asyncio.Event().wait()

    async with platform(own_broker, harness, tmp_path, copy=hangs, max_shadows=2) as it:
        for _ in range(5):
            assert (await it.ask(timeout=5))["answer"] == "Hello world"

        async def ended() -> bool:
            lines = (await it.http.get("/metrics")).text.splitlines()
            found = [line for line in lines if line.startswith("sluice_canary_copies_total{")]
            assert all("deadline-exceeded" in line or "skipped" in line for line in found), found
            return sum(float(line.rpartition(" ")[2]) for line in found) == 5

        await until(ended, "the end of all copies")
        assert await asyncio.to_thread(it.gateway.stop) == 0
        counts = await it.counts()
    assert (counts.of("v1").answered, counts.of("v2").asked) == (5, 0)
