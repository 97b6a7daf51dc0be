"""Shadow traffic through a real gateway: measured, bounded, and never seen by a client."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from httpx_sse import aconnect_sse

from shared.contracts.envelope import Lane, Query
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context, Process
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until
from tests.harness.stages import Stages, answer_with

pytestmark = pytest.mark.anyio


async def fails(_: Query, context: Context) -> None:
    await context.delta("Not this")
    raise Problem(ProblemType.ENGINE_FAILED, "The canary's engine is broken.")


class Hangs:
    """A generator that says a little and stops until it is cancelled."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[Query] = asyncio.Queue()
        self.ended: asyncio.Queue[Query] = asyncio.Queue()

    async def __call__(self, query: Query, context: Context) -> None:
        await context.delta("Not this")
        self.begun.put_nowait(query)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.put_nowait(query)


class Platform:
    """A gateway whose generator has a shadow, `canary`, and what can be asked of it."""

    def __init__(self, http: httpx.AsyncClient, gateway: ServiceProcess, live: Stages, canary: Stages) -> None:
        self.http = http
        self.gateway = gateway
        self.live = live
        self.canary = canary

    async def ask(self, **request: Any) -> dict[str, Any]:
        response = await self.http.post("/v1/query", json={"question": "What?"} | request)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def stream(self, **request: Any) -> list[tuple[str, Any]]:
        body = {"question": "What?", "stream": True} | request
        async with aconnect_sse(self.http, "POST", "/v1/query", json=body) as source:
            return [(event.event, event.json()) async for event in source.aiter_sse()]

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one of the shadow's metrics, 0 where there is none yet."""
        wanted = [f'{key}="{value}"' for key, value in ({"stage": "generate", "variant": "canary"} | labels).items()]
        lines = (await self.http.get("/metrics")).text.splitlines()
        found = [line for line in lines if line.startswith(f"{name}{{") and all(label in line for label in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    async def ended(self, outcome: str, count: float = 1) -> None:
        """Wait until so many shadows have ended so."""

        async def counted() -> bool:
            return await self.metric("sluice_shadow_queries_total", outcome=outcome) == count

        await until(counted, f"{count} shadows that end with {outcome}")

    async def route(self, **members: Any) -> None:
        """Set the route of `generate`, and return when it is in force.

        Routes come to the gateway in the order of their writing: that of a stage without workers, written afterwards,
        shows in the status.
        """

        async def in_force() -> bool:
            return any("marker" in warning for warning in (await self.http.get("/v1/status")).json()["warnings"])

        (await self.http.put("/v1/routes/generate", json=members)).raise_for_status()
        (await self.http.put("/v1/routes/marker", json={})).raise_for_status()
        await until(in_force, "the route")


@asynccontextmanager
async def platform(
    broker: NatsServer, folder: Path, canary: Process | None = None, percent: float = 100, **settings: Any
) -> AsyncIterator[Platform]:
    """All stages, and the generator's variant `canary` beside them where it is given something to do."""
    live, shadow = Stages(broker.url), Stages(broker.url)
    with ServiceProcess("services.gateway", folder, nats_url=broker.url, **settings) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as http, live.running():
            (await http.post("/v1/collections", json={"name": "default"})).raise_for_status()
            made = Platform(http, gateway, live, shadow)
            await made.route(shadows={"canary": percent})
            if canary is None:
                yield made
                return
            shadow.does["generate"] = canary
            async with shadow.running(("generate",), "canary"):
                yield made


@pytest.mark.parametrize(
    ("does", "outcome"),
    [
        (answer_with("Something ", "else ", "entirely"), "answered"),
        (fails, "engine-failed"),
        (Hangs(), "deadline-exceeded"),
    ],
    ids=["answers something else", "fails", "hangs"],
)
async def test_a_shadow_never_reaches_a_client(
    own_broker: NatsServer, tmp_path: Path, does: Process, outcome: str
) -> None:
    async with platform(own_broker, tmp_path, does) as it:
        answer = await it.ask(timeout=2)
        events = await it.stream(timeout=2)
        await it.ended(outcome, 2)
        shadows, queries = it.canary.given["generate"], it.live.given["generate"]
    assert answer["answer"] == "Hello world"
    assert answer["timings"]["stages"][-1]["variant"] == "default"
    assert [name for name, _ in events] == ["sources", "delta", "delta", "done"]
    assert [data["text"] for name, data in events if name == "delta"] == ["Hello ", "world"]
    assert {answer["id"], events[-1][1]["id"]} == {query.id for query in queries}
    assert {shadow.id for shadow in shadows}.isdisjoint(query.id for query in queries)


async def test_a_shadow_is_a_copy_on_the_batch_lane_for_the_other_variant_that_says_whose_it_is(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    async with platform(own_broker, tmp_path, answer_with("Hello")) as it:
        await it.ask(question="Wann?")
        await it.canary.arrived("generate")
        (shadow,), (query,) = it.canary.given["generate"], it.live.given["generate"]
        embedded = it.live.given["embed"]
    assert (shadow.lane, query.lane) == (Lane.BATCH, Lane.INTERACTIVE)
    assert (shadow.question, shadow.deadline, shadow.passages) == (query.question, query.deadline, query.passages)
    assert (shadow.stop.variant, shadow.stop.params) == ("canary", query.stop.params)
    assert shadow.notes == {"shadow_of": query.id}
    assert {each.lane for each in embedded} == {Lane.BATCH, Lane.INTERACTIVE}


GRAPH = """
pipelines:
  default:
    - ensemble:
        - {name: search, then: [{cache: [embed, retrieve], seconds: 60}]}
        - {name: side, then: [embed]}
    - switch: [{when: "question == 'Rerank?'", then: [rerank]}]
    - generate
"""


async def test_a_stage_within_a_branch_has_shadows_that_go_all_ways(own_broker: NatsServer, tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(GRAPH)
    async with (
        platform(own_broker, tmp_path, percent=0, pipelines=file) as it,
        it.canary.running(("retrieve",), "canary"),
    ):
        for stage in ("retrieve", "rerank"):
            (await it.http.put(f"/v1/routes/{stage}", json={"shadows": {"canary": 100}})).raise_for_status()
        (await it.http.delete("/v1/routes/marker")).raise_for_status()
        await it.route(weights={"default": 1})
        answer = await it.ask()
        await until(lambda: _counted(it, "retrieve", "answered"), "a shadow of a branch")
        await until(lambda: _counted(it, "rerank", "unvisited"), "a shadow that went another way")
        (shadow,) = it.canary.given["retrieve"]
        assert await it.metric("sluice_shadow_stage_work_seconds_count", stage="retrieve", side="shadow") == 1
        assert await it.metric("sluice_shadow_seconds_count", stage="rerank") == 0
    assert (shadow.branch.endswith(".search"), shadow.notes) == (True, {"shadow_of": answer["id"]})
    assert answer["answer"] == "Hello world"


async def _counted(it: Platform, stage: str, outcome: str) -> bool:
    return await it.metric("sluice_shadow_queries_total", stage=stage, outcome=outcome) == 1


async def test_both_sides_of_a_pair_are_measured(own_broker: NatsServer, tmp_path: Path) -> None:
    async with platform(own_broker, tmp_path, answer_with("Hello ", "big ", "world")) as it:
        for _ in range(3):
            await it.ask()
        await it.ended("answered", 3)
        for side, tokens in (("live", 2), ("shadow", 3)):
            assert await it.metric("sluice_shadow_seconds_count", side=side) == 3
            assert await it.metric("sluice_shadow_first_delta_seconds_count", side=side) == 3
            assert await it.metric("sluice_shadow_stage_work_seconds_count", side=side) == 3
            assert await it.metric("sluice_shadow_completion_tokens_sum", side=side) == 3 * tokens
        assert await it.metric("sluice_shadow_text_overlap_sum") == pytest.approx(3 * 0.8)
        assert await it.metric("sluice_shadow_source_overlap_sum") == 3
        assert "sluice_gateway_first_delta_seconds_count 3.0" in (await it.http.get("/metrics")).text


async def test_a_shadow_takes_its_percentage_and_none_once_it_is_taken_away(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    async with platform(own_broker, tmp_path, answer_with("Hello"), percent=0) as it:
        await it.ask()
        await it.http.delete("/v1/routes/marker")
        await it.route(shadows={"canary": 100})
        await it.ask()
        await it.ended("answered")
        assert (await it.http.delete("/v1/routes/generate")).status_code == 204
        await it.http.delete("/v1/routes/marker")
        await it.route(weights={"default": 1})
        await it.ask()
    assert len(it.canary.given["generate"]) == 1


async def test_shadows_beyond_the_bound_are_left_out_and_counted(own_broker: NatsServer, tmp_path: Path) -> None:
    does = Hangs()
    async with platform(own_broker, tmp_path, does, max_shadows=2) as it:
        for _ in range(5):
            assert (await it.ask())["answer"] == "Hello world"
        await it.ended("skipped", 3)
        async with asyncio.timeout(30):
            assert len({(await does.begun.get()).id for _ in range(2)}) == 2
        assert "sluice_shadow_in_flight 2.0" in (await it.http.get("/metrics")).text


async def test_where_lines_of_batches_wait_so_do_shadows_and_only_few(own_broker: NatsServer, tmp_path: Path) -> None:
    does = Hangs()
    async with platform(own_broker, tmp_path, does, batch_yields=True) as it:
        for _ in range(6):
            assert (await it.ask())["answer"] == "Hello world"
        await it.ended("skipped", 2)
        assert len(it.canary.given["generate"]) <= 2


async def test_shadows_that_nobody_serves_and_a_full_queue_of_them_do_not_hold_up_live_queries(
    own_broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_QUEUE_LIMIT", "1")
    async with platform(own_broker, tmp_path) as it:
        for _ in range(3):
            assert (await it.ask(timeout=5))["answer"] == "Hello world"
        # The first one waits for a worker, the stage before it reports that there is no room for the others.
        await it.ended("queue-full", 2)
        await it.ended("stage-unavailable", 1)


async def test_the_shadow_of_a_client_who_leaves_stops(own_broker: NatsServer, tmp_path: Path) -> None:
    live, does = Hangs(), Hangs()
    async with platform(own_broker, tmp_path, does) as it:
        it.live.does["generate"] = live
        pending = asyncio.create_task(it.ask())
        async with asyncio.timeout(30):
            await live.begun.get()
            shadow = await does.begun.get()
            pending.cancel()
            assert (await does.ended.get()).id == shadow.id
        await it.ended("cancelled")


async def test_the_shadow_of_a_query_that_fails_goes_on(own_broker: NatsServer, tmp_path: Path) -> None:
    async with platform(own_broker, tmp_path, answer_with("Hello")) as it:
        it.live.does["generate"] = fails
        response = await it.http.post("/v1/query", json={"question": "What?"})
        assert response.status_code == 502
        await it.ended("answered")
        assert await it.metric("sluice_shadow_seconds_count") == 0


async def test_a_gateway_that_stops_drops_its_shadows(own_broker: NatsServer, tmp_path: Path) -> None:
    does = Hangs()
    async with platform(own_broker, tmp_path, does, grace_seconds=300) as it:
        await it.ask(timeout=60)
        async with asyncio.timeout(30):
            shadow = await does.begun.get()
            assert await asyncio.to_thread(it.gateway.stop) == 0
            assert (await does.ended.get()).id == shadow.id


async def test_a_shadow_ends_with_the_broker_and_the_live_query_does_not(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    live, does = Hangs(), Hangs()
    async with platform(own_broker, tmp_path, does) as it:
        it.live.does["generate"] = live
        pending = asyncio.create_task(it.ask())
        async with asyncio.timeout(30):
            await live.begun.get()
            await does.begun.get()
        it.live.does["generate"] = answer_with("Hello ", "world")
        own_broker.kill()
        own_broker.start()
        assert (await pending)["answer"] == "Hello world"


async def test_the_answers_of_a_shadow_can_be_read_beside_the_live_ones(own_broker: NatsServer, tmp_path: Path) -> None:
    does = answer_with("Hello ", "moon")
    async with platform(own_broker, tmp_path, does, keep_answers=True) as it:
        answers = [await it.ask(), await it.ask(question="Where?")]
        await it.ended("answered", 2)
        pairs: list[dict[str, Any]] = []

        async def kept() -> bool:
            found = await it.http.get("/v1/comparisons", params={"stage": "generate", "variant": "canary"})
            pairs[:] = found.json()["comparisons"]
            return len(pairs) == 2

        await until(kept, "two comparisons")
        others = await it.http.get("/v1/comparisons", params={"stage": "generate", "variant": "other"})
        lists = (await it.http.get("/v1/answers")).json()["answers"]
        await it.http.delete(f"/v1/answers/{answers[0]['id']}")
        left = (await it.http.get("/v1/comparisons", params={"stage": "generate"})).json()["comparisons"]
    assert {pair["live"]["id"] for pair in pairs} == {answer["id"] for answer in answers}
    for pair in pairs:
        assert pair["live"]["id"] == pair["shadow"]["id"]
        assert (pair["live"]["answer"], pair["shadow"]["answer"]) == ("Hello world", "Hello moon")
        assert (pair["text_overlap"], pair["source_overlap"]) == (0.5, 1.0)
        assert (pair["shadow"]["stage"], pair["shadow"]["variant"]) == ("generate", "canary")
        assert pair["shadow"]["timings"]["stages"][-1]["variant"] == "canary"
    assert others.json()["comparisons"] == []
    assert len(lists) == 2
    assert [pair["live"]["question"] for pair in left] == ["Where?"]


async def test_the_answer_of_a_shadow_is_kept_as_one_of_the_reader_or_not_at_all(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    secret = "a secret of the application, which signs who asks"
    token = jwt.encode({"sub": "alice", "exp": time.time() + 600}, secret, algorithm="HS256")
    asks: dict[str, Any] = {"json": {"question": "Whose?"}, "headers": {"X-Sluice-Identity": token}}
    async with platform(own_broker, tmp_path, answer_with("Hello"), keep_answers=True, identity_secret=secret) as it:
        answers, it.live.does["generate"] = it.live.does["generate"], fails
        assert (await it.http.post("/v1/query", **asks)).status_code != 200
        await it.ended("answered")
        it.live.does["generate"] = answers
        assert (await it.http.post("/v1/query", **asks)).status_code == 200
        exported: list[dict[str, Any]] = []

        async def kept() -> bool:
            lines = (await it.http.get("/v1/readers/user:alice")).text.splitlines()
            exported[:] = [json.loads(line)["answer"] for line in lines]
            return len(exported) == 2

        await until(kept, "both answers to alice")
        erased = (await it.http.delete("/v1/readers/user:alice")).json()
        left = (await it.http.get("/v1/readers/user:alice")).text
        metrics = (await it.http.get("/metrics")).text
    assert sorted((one["stage"], one["answer"]) for one in exported) == [("", "Hello world"), ("generate", "Hello")]
    assert (erased, left) == ({"answers": 1, "feedback": 0, "payloads": 0}, "")
    assert 'sluice_gateway_answers_kept_total{outcome="kept"} 2.0' in metrics
