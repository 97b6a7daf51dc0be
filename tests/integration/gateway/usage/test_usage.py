"""What a gateway counts of its answers, and what it says of it over HTTP."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.usage.models import UsageRecord, UsageRow
from services.gateway.usage.store import UsageStore
from shared.contracts.envelope import Query, pack_vector
from shared.contracts.events import Usage
from shared.runtime.stage import Context
from sluice import Client
from tests.harness.authenticated_gateway import AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import StageHarness, open_stage_harness, until
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

ASKED = {"question": "What?"}
EMBEDDER, RERANKER = "tiny-embedder", "tiny-reranker"
PRICES = {MODEL: {"prompt": 2.0, "completion": 10.0}}


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = {"prices": json.dumps(PRICES), "currency": "EUR"}
    with authenticated_gateway(broker, folder, **settings) as running:
        yield running


async def generate(query: Query, context: Context) -> None:
    await context.sources(query.passages)
    await context.delta("Hello world")
    usage = Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=5)
    await context.done(usage=usage, engine="tiny", model=MODEL)


async def embed(query: Query, _: Context) -> Query:
    vectors = [passage.model_copy(update={"vector": pack_vector([1.0, 0.0])}) for passage in query.passages]
    embedded = query.with_passages(vectors).with_embedding(pack_vector([1.0, 0.0]))
    return embedded.model_copy(update={"notes": {**query.notes, "embed_tokens": 3 * len(vectors)}})


async def rerank(query: Query, _: Context) -> Query:
    scored = [passage.model_copy(update={"score": 0.5}) for passage in query.passages]
    note = {"model": RERANKER, "scored": len(scored), "candidates": len(scored), "tokens": 11}
    return query.with_passages(scored).model_copy(update={"notes": {"rerank": note}})


@asynccontextmanager
async def stages(url: str) -> AsyncIterator[Stages]:
    served = Stages(url)
    served.models |= {"generate": MODEL, "embed": EMBEDDER, "rerank": RERANKER}
    served.does |= {"generate": generate, "embed": embed, "rerank": rerank}
    async with served.running(("embed", "retrieve", "rerank", "generate")):
        yield served


@asynccontextmanager
async def asynchronous(client: httpx.Client) -> AsyncIterator[httpx.AsyncClient]:
    """The same client, for requests that stages in this process answer."""
    async with httpx.AsyncClient(base_url=client.base_url, headers=client.headers, trust_env=False, timeout=60) as http:
        yield http


async def report(http: httpx.AsyncClient, **params: str) -> Any:
    found = await http.get("/v1/usage", params=params)
    assert found.status_code == 200, found.text
    return found.json()


def counts(row: dict[str, Any]) -> tuple[int, int, int, int]:
    return row["requests"], row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]


async def post(http: httpx.AsyncClient, path: str, **body: Any) -> None:
    answered = await http.post(path, json=body)
    assert answered.status_code == 200, answered.text


async def ask(http: httpx.AsyncClient, **more: Any) -> None:
    await post(http, "/v1/query", **ASKED, **more)


async def test_every_kind_of_answer_counts_by_its_model(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    client = gateway.of("all-kinds", "query", "read", "write")
    assert client.post("/v1/collections", json={"name": "default"}).status_code == 201
    said = [{"role": "user", "content": "What?"}]
    async with stages(broker.url), asynchronous(client) as http:
        await ask(http)
        await ask(http, stream=True)
        await post(http, "/v1/chat/completions", model=MODEL, messages=said)
        await post(http, "/v1/chat/completions", model="rag/default", messages=said, stream=True)
        await post(http, "/v1/completions", model=MODEL, prompt="Once")
        await post(http, "/v1/embeddings", model=EMBEDDER, input=["a", "b"])
        await post(http, "/v1/rerank", model=RERANKER, query="q", documents=["a", "b"])
        found = await report(http, by="model")
        (key,) = (await report(http, by="key"))["rows"]
    assert {row["model"]: counts(row) for row in found["rows"]} == {
        MODEL: (5, 35, 10, 25),
        EMBEDDER: (1, 6, 0, 0),
        RERANKER: (1, 11, 0, 0),
    }
    costs = {row["model"]: row["cost"] for row in found["rows"]}
    assert costs == {MODEL: pytest.approx((35 * 2 + 10 * 10) / 1e6), EMBEDDER: None, RERANKER: None}
    assert (found["currency"], found["total"]["unpriced_tokens"]) == ("EUR", 17)
    assert counts(found["total"]) == counts(key) == (7, 52, 10, 25)
    assert key["key"] == http.headers["Authorization"].split("-")[2]


async def test_a_tenant_sees_its_own_usage_and_no_other(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    async with stages(broker.url):
        for tenant, questions in (("red", 1), ("blue", 2)):
            client = gateway.of(tenant, "query", "read", "write")
            client.post("/v1/collections", json={"name": "default"})
            async with asynchronous(client) as http:
                for _ in range(questions):
                    await ask(http)
                found = await report(http)
                assert (found["tenant"], found["total"]["requests"]) == (tenant, questions)
                assert (await report(http, tenant=tenant))["total"] == found["total"]
                for params in ({"by": "tenant"}, {"tenant": "green"}, {"tenant": "*"}):
                    assert (await http.get("/v1/usage", params=params)).status_code == 403
        async with asynchronous(gateway.admin) as http:
            by_tenant = {row["tenant"]: row["requests"] for row in (await report(http, by="tenant"))["rows"]}
            assert (by_tenant["red"], by_tenant["blue"]) == (1, 2)
            assert (await report(http, tenant="red"))["total"]["requests"] == 1
            assert (await report(http, tenant="*"))["total"]["requests"] >= 3
            assert (await report(http, tenant="nobody"))["rows"] == []


def test_usage_takes_the_action_read(gateway: AuthenticatedGateway) -> None:
    assert gateway.of("acme", "query").get("/v1/usage").status_code == 403


@pytest.mark.parametrize(
    "params",
    [
        {"by": "year"},
        {"by": ""},
        {"start": "yesterday"},
        {"start": "2026-12-01", "end": "2026-11-30"},
        {"start": "2024-01-01", "end": "2025-12-31"},
        {"end": "0001-01-01"},
        {"tenant": "a.>"},
        {"tenant": ">"},
        {"tenant": ""},
    ],
)
def test_what_cannot_be_summed_is_a_problem(gateway: AuthenticatedGateway, params: dict[str, str]) -> None:
    refused = gateway.admin.get("/v1/usage", params=params)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:sluice:problem:invalid-request")


async def test_a_range_has_its_first_and_its_last_day_and_none_beside(
    gateway: AuthenticatedGateway, broker: NatsServer
) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in (0, 1, 29, 30, 40, 399)]
    async with open_stage_harness(broker.url) as harness:
        store = UsageStore(harness.jetstream)
        for day in days:
            await store.put("ranges", day, "1", UsageRecord(rows=(UsageRow(model="m", requests=1),)))
    async with asynchronous(gateway.of("ranges", "read")) as http:

        async def found(**params: Any) -> list[str]:
            return [row["day"] for row in (await report(http, **{k: str(v) for k, v in params.items()}))["rows"]]

        assert await found() == [str(day) for day in sorted(days[:3])]
        assert await found(start=days[3], end=days[2]) == [str(days[3]), str(days[2])]
        assert await found(start=days[-1]) == [str(day) for day in sorted(days)]


async def test_the_client_and_the_command_line_tell_the_same(gateway: AuthenticatedGateway, broker: NatsServer) -> None:
    day = date(2026, 2, 28)
    async with open_stage_harness(broker.url) as harness:
        rows = (
            UsageRow(key="k1", model=MODEL, requests=1200, prompt_tokens=1_000_000, completion_tokens=500),
            UsageRow(model="unpriced", requests=1, prompt_tokens=3),
        )
        await UsageStore(harness.jetstream).put("shell", day, "1", UsageRecord(rows=rows))
    key = gateway.issue("shell", "read")["secret"]
    gateway.until(gateway.client(key), lambda status: status != 401)
    with Client(gateway.process.url, api_key=key) as client:
        found = client.usage(start=day, end="2026-02-28", by=["model", "key"])
    assert [(row.model, row.key, row.requests) for row in found.rows] == [(MODEL, "k1", 1200), ("unpriced", "", 1)]
    assert (found.start, found.rows[0].day, found.rows[0].cost) == (day, None, pytest.approx(2.005))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "sluice", "usage", "--start", str(day), "--end", str(day), *arguments]
        env = {**os.environ, "SLUICE_URL": gateway.process.url, "SLUICE_API_KEY": key}
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout

    assert [line.split("\t") for line in run("--by", "model,key").splitlines()] == [
        [MODEL, "k1", "1,200", "1,000,000", "0", "500", "2.0050"],
        ["unpriced", "(none)", "1", "3", "0", "0", ""],
        ["total", "", "1,201", "1,000,003", "0", "500", "2.0050"],
    ]
    assert json.loads(run("--json"))["rows"][0]["day"] == "2026-02-28"


async def test_a_stream_that_its_reader_leaves_counts_what_was_written(
    gateway: AuthenticatedGateway, broker: NatsServer
) -> None:
    client = gateway.of("leaver", "query", "read", "write")
    client.post("/v1/collections", json={"name": "default"})

    async def never_done(query: Query, context: Context) -> None:
        await context.sources(query.passages)
        for _ in range(1000):
            await context.delta("Hello world ")
        await asyncio.Event().wait()

    async with stages(broker.url) as served, asynchronous(client) as http:
        served.does["generate"] = never_done
        async with http.stream("POST", "/v1/query", json={**ASKED, "stream": True}) as response:
            async for line in response.aiter_lines():
                if line == "event: delta":
                    break

        async def counted() -> Any:
            return (await report(http, by="model"))["rows"]

        (row,) = await until(counted)
    assert (row["model"], row["requests"], row["prompt_tokens"]) == ("", 1, 0)
    assert row["completion_tokens"] > 0


async def test_what_is_counted_is_written_at_the_end_and_found_by_the_next_process(
    harness: StageHarness, own_broker: NatsServer, tmp_path: Path
) -> None:
    settings = {"nats_url": own_broker.url}
    with ServiceProcess("services.gateway", tmp_path, **settings) as gateway:
        async with stages(own_broker.url), httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as http:
            await http.post("/v1/collections", json={"name": "default"})
            await ask(http)
        today = datetime.now(UTC).date()
        assert gateway.stop() == 0
        kept = [row async for row in UsageStore(harness.jetstream).rows("default", today - timedelta(days=1), today)]
        assert [(one.tenant, one.row.requests) for one in kept] == [("default", 1)]
        gateway.start()
        gateway.wait_ready()
        async with stages(own_broker.url), httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as http:
            await ask(http)
            found = await report(http, by="model")
    assert [(row["model"], row["requests"]) for row in found["rows"]] == [(MODEL, 2)]
    assert (found["currency"], found["total"]["cost"]) == (None, None)


async def test_two_gateways_are_summed(broker: NatsServer, gateway: AuthenticatedGateway, tmp_path: Path) -> None:
    client = gateway.of("twice", "query", "read", "write")
    client.post("/v1/collections", json={"name": "default"})
    with authenticated_gateway(broker, tmp_path) as second:
        other = second.client(client.headers["Authorization"].removeprefix("Bearer "))
        second.until(other, lambda status: status != 401)
        async with stages(broker.url), asynchronous(client) as here, asynchronous(other) as there:
            await ask(here)
            await ask(there)
            await report(here)
            assert (await report(there))["total"]["requests"] == 2
            await report(there)
            assert (await report(here))["total"]["requests"] == 2


async def test_what_is_counted_while_the_broker_is_away_is_written_when_it_is_back(
    own_broker: NatsServer, own_gateway: ServiceProcess
) -> None:
    async with httpx.AsyncClient(base_url=own_gateway.url, trust_env=False, timeout=60) as http:
        await http.post("/v1/collections", json={"name": "default"})
        async with stages(own_broker.url):
            await ask(http)
        own_broker.kill()

        async def away() -> bool:
            return "lost the connection" in own_gateway.log

        await until(away)
        refused = await http.get("/v1/usage")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:sluice:problem:broker-unavailable")
        own_broker.start()

        async def back() -> bool:
            return (await http.get("/v1/usage")).status_code == 200

        await until(back)
        assert (await report(http))["total"]["requests"] == 1
