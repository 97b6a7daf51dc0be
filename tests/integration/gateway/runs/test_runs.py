"""Experiment runs over HTTP, to those who may see the jobs that they are."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from shared.contracts.jobs import (
    CodeVersion,
    DataVersion,
    EvaluateSpec,
    Job,
    JobOptions,
    JobSpec,
    JobState,
    PipelineSpec,
    RunFacts,
    SwitchSpec,
    TuneSpec,
)
from shared.contracts.metrics import METRICS_FILE, MetricHistory
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore
from tests.harness.authenticated_gateway import AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.job_harness import delete_jobs

pytestmark = pytest.mark.anyio

FACTS = RunFacts(
    code=CodeVersion(version="1.2", revision="abc"),
    data=DataVersion(files={"set/q.jsonl": "SHA-256=x"}, version="v1", index="i", documents=7),
    trace="0" * 31 + "1",
)
OUTPUTS = {"ndcg_at_10": 0.5, "recall_at_10": 1, "better": True, "version": "v1"}


class Runs:
    """Jobs of the tenant `acme`, in states of the test's choosing."""

    def __init__(self, job_store: JobStore, artifacts: Artifacts) -> None:
        self.job_store = job_store
        self.artifacts = artifacts

    async def submit(self, job: str, spec: JobSpec, **options: Any) -> None:
        await self.job_store.submit(spec, job=job, tenant="acme", options=JobOptions.model_validate(options))

    async def change(self, job: str, **members: Any) -> Job:
        return await self.job_store.update("acme", job, lambda known: known.model_copy(update=members))


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    folder: Path = tmp_path_factory.mktemp("runs")
    with authenticated_gateway(broker, folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def http(gateway: AuthenticatedGateway) -> httpx.Client:
    return gateway.of("acme")


@asynccontextmanager
async def opened(broker: NatsServer) -> AsyncIterator[Runs]:
    connection = await nats.connect(broker.url)
    jetstream = connection.jetstream()
    yield Runs(JobStore(connection, jetstream), Artifacts(jetstream))
    await connection.close()


@pytest.fixture
async def runs(broker: NatsServer, gateway: AuthenticatedGateway) -> AsyncIterator[Runs]:
    assert gateway.process.url
    await delete_jobs(broker.url)
    async with opened(broker) as found:
        yield found


async def get(http: httpx.Client, path: str, params: dict[str, str | int | bool] | None = None) -> httpx.Response:
    return await asyncio.to_thread(http.get, path, params=params)


async def test_a_run_has_its_parameters_metrics_and_versions(runs: Runs, http: httpx.Client) -> None:
    spec = TuneSpec.model_validate({"input": "set/q.jsonl", "collection": "docs", "chunks": [{"tokens": 64}]})
    await runs.submit("one", spec, by="ann", labels={"team": "search"})
    await runs.change("one", state=JobState.RUNNING, started_at=5.0, facts=FACTS)
    await runs.change("one", state=JobState.SUCCEEDED, outputs=OUTPUTS, artifacts=("report.json",))
    run = (await get(http, "/v1/runs/one")).json()
    assert (run["kind"], run["state"], run["by"], run["labels"]) == ("tune", "succeeded", "ann", {"team": "search"})
    assert run["parameters"]["chunks.0.tokens"] == 64
    assert run["parameters"]["input"] == "set/q.jsonl"
    assert "seconds" not in run["parameters"], "what is null is not a parameter"
    assert run["metrics"] == {"ndcg_at_10": 0.5, "recall_at_10": 1.0}
    assert run["outputs"] == {"better": True, "version": "v1"}
    assert (run["code"]["version"], run["code"]["revision"]) == ("1.2", "abc")
    assert run["data"] == {"files": {"set/q.jsonl": "SHA-256=x"}, "version": "v1", "index": "i", "documents": 7}
    assert run["trace_id"] == FACTS.trace


async def test_runs_are_jobs_of_some_kinds_listed_page_by_page(runs: Runs, http: httpx.Client) -> None:
    pipeline = PipelineSpec.model_validate(
        {"name": "p", "steps": {"a": {"job": {"kind": "command", "env": {"TOKEN": "secret"}}}}}
    )
    await runs.submit("flow", pipeline)
    for number in range(3):
        await runs.submit(f"e{number}", EvaluateSpec(input="set/q.jsonl", collection="docs"), parent="flow")
    await runs.submit("other", SwitchSpec(collection="docs"))
    page = (await get(http, "/v1/runs", params={"limit": 2})).json()
    assert [run["id"] for run in page["runs"]] == ["e2", "e1"]
    rest = (await get(http, "/v1/runs", params={"limit": 2, "after": page["next"]})).json()
    assert ([run["id"] for run in rest["runs"]], rest["next"]) == (["e0", "flow"], None)
    assert "secret" not in json.dumps(rest)
    assert [run["id"] for run in (await get(http, "/v1/runs", params={"steps": False})).json()["runs"]] == ["flow"]
    steps = (await get(http, "/v1/runs", params={"parent": "flow", "kind": "evaluate"})).json()["runs"]
    assert len(steps) == 3
    refused = await get(http, "/v1/runs/other")
    assert refused.status_code == 404
    assert "is not an experiment run" in refused.json()["detail"]
    assert (await get(http, "/v1/runs", params={"label": "x"})).status_code == 422


async def test_metrics_by_step_are_there_while_the_run_goes_on(runs: Runs, http: httpx.Client) -> None:
    await runs.submit("logs", EvaluateSpec(input="set/q.jsonl", collection="docs"))
    assert (await get(http, "/v1/runs/logs/metrics")).json() == {"metrics": []}
    history = MetricHistory()
    history.add(1, 10.5, {"loss": 2.0, "score": 0.5})
    history.add(2, 11.5, {"loss": float("nan")})
    await runs.artifacts.put("acme", f"logs/{METRICS_FILE}", history.encode())
    loss, score = (await get(http, "/v1/runs/logs/metrics")).json()["metrics"]
    assert loss == {"name": "loss", "steps": [1, 2], "values": [2.0, None], "times": [10.5, 11.5]}
    assert score["values"] == [0.5]
    (only,) = (await get(http, "/v1/runs/logs/metrics", params={"name": "score"})).json()["metrics"]
    assert only["name"] == "score"


async def test_a_failed_run_says_why(runs: Runs, http: httpx.Client) -> None:
    await runs.submit("fails", EvaluateSpec(input="set/q.jsonl", collection="docs"))
    await runs.change("fails", state=JobState.FAILED, error=Problem(ProblemType.NOT_FOUND, "no file").details)
    assert (await get(http, "/v1/runs/fails")).json()["error"].endswith(": no file")


async def test_keys_see_the_runs_of_their_tenant_and_collections_alone(
    runs: Runs, gateway: AuthenticatedGateway
) -> None:
    await runs.submit("open", EvaluateSpec(input="set/q.jsonl", collection="docs"))
    await runs.submit("closed", EvaluateSpec(input="set/q.jsonl", collection="secret"))
    narrow = gateway.of("acme", "read", collections=["docs"])
    assert [run["id"] for run in narrow.get("/v1/runs").json()["runs"]] == ["open"]
    for path in ("/v1/runs/closed", "/v1/runs/closed/metrics"):
        assert narrow.get(path).status_code == 403
    other = gateway.of("other", "read")
    assert other.get("/v1/runs").json()["runs"] == []
    assert other.get("/v1/runs/open").status_code == 404
    assert gateway.of("acme", "query").get("/v1/runs").status_code == 403
