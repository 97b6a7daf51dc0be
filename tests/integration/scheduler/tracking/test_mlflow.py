"""Experiment runs in a real MLflow tracking server."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.tracking.mlflow_client import MLflowClient
from services.scheduler.tracking.mlflow_registry import MLflowRegistry
from services.scheduler.tracking.release_mirror import ReleaseMirror
from services.scheduler.tracking.release_worker import ReleaseCopyWorker
from services.scheduler.tracking.run_mirror import RunMirror
from services.scheduler.tracking.run_worker import RunCopyWorker
from services.scheduler.tracking.settings import TrackingSettings
from shared.contracts.jobs import EvaluateSpec, JobOptions, JobState, PipelineSpec, TuneSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import (
    DatasetOrigin,
    Evaluation,
    ModelOrigin,
    Release,
    ReleaseContent,
    ReleaseEvent,
    ReleaseStage,
    release_name,
)
from shared.stores.collections import Collections
from shared.stores.releases import ReleaseStore
from shared.version import VERSION
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness
from tests.harness.mlflow_server import MLflowServer, metrics, params, tags
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

PATIENCE = 120.0
SPEC = TuneSpec(input="set/questions.jsonl", collection="docs", trials=5)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    with MLflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
async def harness(own_broker: NatsServer) -> AsyncIterator[JobHarness]:
    async with open_job_harness(own_broker.url) as job_harness:
        yield job_harness


def settings_of(url: str, experiment: str, **more: Any) -> TrackingSettings:
    """Each test has experiments of its own."""
    return TrackingSettings(mlflow_uri=url, mlflow_experiment=experiment, mlflow_live_seconds=0.2, **more)


@asynccontextmanager
async def mirror_of(harness: JobHarness, settings: TrackingSettings) -> AsyncIterator[RunMirror]:
    client = MLflowClient(settings)
    yield RunMirror(client, settings, harness.job_store, harness.artifacts, harness.bus.jetstream)
    await client.close()


@asynccontextmanager
async def copying(harness: JobHarness, settings: TrackingSettings) -> AsyncIterator[RunCopyWorker]:
    """A worker beside those of the jobs."""
    async with mirror_of(harness, settings) as mirror, anyio.create_task_group() as tasks:
        worker = RunCopyWorker(harness.bus, harness.job_store, mirror, settings, ack_wait=1.0)
        tasks.start_soon(worker.run)
        yield worker
        await worker.drain(5)
        tasks.cancel_scope.cancel()


async def copied(mlflow: MLflowServer, experiment: str, job: str, status: str) -> dict[str, Any]:
    """The run of a job once it has a status."""

    async def look() -> dict[str, Any] | None:
        found = await asyncio.to_thread(mlflow.run_of, experiment, job)
        return found if found and found["info"]["status"] == status else None

    run: dict[str, Any] = await until(look, f"{job} is {status} in MLflow", patience=PATIENCE)
    return run


class Link:
    """An address of the server's at which nothing answers while it is cut."""

    def __init__(self, server: MLflowServer) -> None:
        self._target = int(server.url.rpartition(":")[2])
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self._port = bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[None]:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_pump, reader, there_writer)
                tasks.start_soon(_pump, there_reader, writer)

        server = await asyncio.start_server(forward, "127.0.0.1", self._port)
        async with server:
            yield


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_a_run_is_copied_with_all_that_it_has(mlflow: MLflowServer, harness: JobHarness) -> None:
    async def perform(context: JobContext) -> None:
        for step in range(1, 6):
            context.log_metrics(step, {"score": step / 10})
        context.log_metrics(6, {"score": float("nan")})
        await context.attach("small.json", b"{}")
        await context.attach("large.bin", b"x" * 101)
        context.outputs.update(score=0.75, trials=5, better=True, message="done")

    await harness.artifacts.put("default", "set/questions.jsonl", b"{}")
    settings = settings_of(
        mlflow.url,
        "whole/{tenant}/{collection}",
        mlflow_artifact_bytes=100,
        mlflow_run_url="https://sluice.example.com/v1/runs/{run}",
    )
    async with copying(harness, settings), harness.working({"tune": perform}):
        await harness.submit(SPEC, "whole", by="ann", labels={"team": "search"})
        job = await harness.ended("whole")
        run = await copied(mlflow, "whole/default/docs", "whole", "FINISHED")
    assert params(run)["trials"] == "5"
    assert params(run)["input"] == "set/questions.jsonl"
    assert metrics(run) == {"score": 0.75, "trials": 5.0}
    assert mlflow.history(run, "score") == [(step, step / 10) for step in range(1, 6)] + [(6, 0.75)]
    found = tags(run)
    assert (found["sluice.kind"], found["sluice.tenant"], found["mlflow.user"]) == ("tune", "default", "ann")
    assert (found["sluice.version"], found["mlflow.source.git.commit"]) == (VERSION, "abc123")
    assert found["sluice.label.team"] == "search"
    assert "set/questions.jsonl=SHA-256" in found["sluice.data.files"]
    assert "https://sluice.example.com/v1/runs/whole" in found["mlflow.note.content"]
    assert mlflow.files(run) == ["small.json"], "the others are larger than is allowed"
    assert int(run["info"]["end_time"]) == round((job.finished_at or 0) * 1e3)


async def test_a_run_that_goes_on_is_seen_with_what_it_has_logged(mlflow: MLflowServer, harness: JobHarness) -> None:
    go_on = asyncio.Event()

    async def perform(context: JobContext) -> None:
        context.log_metrics(1, {"loss": 2.0})
        await context.save(1)  # the file is written before a checkpoint
        await go_on.wait()
        context.log_metrics(2, {"loss": 1.0})

    async with copying(harness, settings_of(mlflow.url, "live")), harness.working({"tune": perform}):
        await harness.submit(SPEC, "live")

        async def first() -> list[tuple[int, float]]:
            run = await asyncio.to_thread(mlflow.run_of, "live", "live")
            return mlflow.history(run, "loss") if run else []

        assert await until(first, "the first step", patience=PATIENCE) == [(1, 2.0)]
        assert (await copied(mlflow, "live", "live", "RUNNING"))["info"].get("end_time") is None
        go_on.set()
        run = await copied(mlflow, "live", "live", "FINISHED")
    assert mlflow.history(run, "loss") == [(1, 2.0), (2, 1.0)]


async def test_steps_of_a_pipeline_are_nested_and_ends_have_their_status(
    mlflow: MLflowServer, harness: JobHarness
) -> None:
    async def fails(_: JobContext) -> None:
        raise Problem(ProblemType.NOT_FOUND, "There is no file.")

    async def waits(_: JobContext) -> None:
        await asyncio.Event().wait()

    pipeline = PipelineSpec.model_validate({"name": "nightly", "steps": {"a": {"job": {"kind": "switch"}}}})
    async with (
        copying(harness, settings_of(mlflow.url, "ends")),
        harness.working({"tune": fails, "pipeline": waits}, long=frozenset({"pipeline"})),
    ):
        await harness.submit(pipeline, "flow")
        parent = await copied(mlflow, "ends", "flow", "RUNNING")
        await harness.submit(SPEC, "fails", parent="flow")
        await harness.ended("fails")
        run = await copied(mlflow, "ends", "fails", "FAILED")
        await harness.job_store.cancel("default", "flow")
        parent = await copied(mlflow, "ends", "flow", "KILLED")
    assert tags(run)["mlflow.parentRunId"] == parent["info"]["run_id"]
    assert tags(run)["sluice.error"].endswith(": There is no file.")
    assert params(parent)["steps.a.job.kind"] == "switch"


async def test_any_number_of_copies_of_a_run_are_one(mlflow: MLflowServer, harness: JobHarness) -> None:
    async def perform(context: JobContext) -> None:
        context.log_metrics(1, {"loss": 2.0})
        context.outputs["loss"] = 1.5

    settings = settings_of(mlflow.url, "once")
    async with harness.working({"tune": perform}):
        await harness.submit(SPEC, "once")
        job = await harness.ended("once")
    async with mirror_of(harness, settings) as one, mirror_of(harness, settings) as other:
        await asyncio.gather(*(mirror.copy(job) for mirror in (one, other, one, other)))
        await other.copy(job)
    (run,) = mlflow.runs("once")
    assert run["info"]["status"] == "FINISHED"
    assert mlflow.history(run, "loss") == [(1, 2.0), (1, 1.5)]


async def test_a_copy_whose_scheduler_died_before_it_wrote_its_id_down_is_found_again(
    mlflow: MLflowServer, harness: JobHarness
) -> None:
    async def perform(_: JobContext) -> None:
        return

    settings = settings_of(mlflow.url, "orphan")
    async with harness.working({"tune": perform}):
        await harness.submit(SPEC, "orphan")
        job = await harness.ended("orphan")
    async with mirror_of(harness, settings) as mirror:
        client = MLflowClient(settings)
        experiment = await client.experiment("orphan")
        left = await client.create_run(experiment, "left", 1.0, [{"key": "sluice.job", "value": "orphan"}])
        await client.close()
        await mirror.copy(job)
    (run,) = mlflow.runs("orphan")
    assert run["info"]["run_id"] == left


async def test_jobs_do_not_wait_for_a_server_that_is_away_and_are_copied_once_it_is_back(
    mlflow: MLflowServer, harness: JobHarness, caplog: pytest.LogCaptureFixture
) -> None:
    async def perform(context: JobContext) -> None:
        context.outputs["score"] = 1.0

    link = Link(mlflow)
    async with copying(harness, settings_of(link.url, "away")), harness.working({"tune": perform}):
        for number in range(6):
            await harness.submit(SPEC, f"away{number}")
        for number in range(6):
            assert (await harness.ended(f"away{number}")).state is JobState.SUCCEEDED

        async def said() -> bool:
            return "is away" in caplog.text

        await until(said, "a word in the log", patience=PATIENCE)
        async with link.whole():
            for number in range(6):
                await copied(mlflow, "away", f"away{number}", "FINISHED")
    assert caplog.text.count("is away") == 1


async def test_an_event_is_given_up_after_its_time(
    mlflow: MLflowServer, harness: JobHarness, caplog: pytest.LogCaptureFixture
) -> None:
    async def perform(_: JobContext) -> None:
        return

    settings = settings_of(Link(mlflow).url, "given-up", mlflow_retry_seconds=0.1)
    async with copying(harness, settings), harness.working({"tune": perform}):
        await harness.submit(SPEC, "lost")
        await harness.ended("lost")

        async def said() -> bool:
            return "the run lost is not copied to MLflow" in caplog.text

        await until(said, "a word in the log", patience=PATIENCE)


async def test_a_run_that_somebody_has_deleted_there_stays_deleted_and_holds_nothing_up(
    mlflow: MLflowServer, harness: JobHarness
) -> None:
    go_on = asyncio.Event()

    async def perform(context: JobContext) -> None:
        if context.job.id == "deleted":
            await go_on.wait()

    async with copying(harness, settings_of(mlflow.url, "deleted")), harness.working({"tune": perform}):
        await harness.submit(SPEC, "deleted")
        mlflow.delete(await copied(mlflow, "deleted", "deleted", "RUNNING"))
        go_on.set()
        await harness.ended("deleted")
        await harness.submit(SPEC, "next")
        await copied(mlflow, "deleted", "next", "FINISHED")
    assert mlflow.run_of("deleted", "deleted") is None


async def test_tenants_have_experiments_of_their_own_and_only_those_named_are_copied(
    mlflow: MLflowServer, harness: JobHarness
) -> None:
    settings = settings_of(mlflow.url, "of/{tenant}", mlflow_tenants="acme, beta*")

    async def perform(_: JobContext) -> None:
        return

    async with copying(harness, settings), harness.working({"tune": perform}):
        for tenant in ("other", "acme", "beta1"):
            await harness.job_store.submit(SPEC, job=f"of-{tenant}", tenant=tenant, options=JobOptions())
        await copied(mlflow, "of/acme", "of-acme", "FINISHED")
        await copied(mlflow, "of/beta1", "of-beta1", "FINISHED")
    assert len(mlflow.runs("of/acme")) == 1
    assert "of/other" not in mlflow.experiments()


async def test_what_a_killed_scheduler_has_not_copied_the_next_one_copies(
    mlflow: MLflowServer, own_broker: NatsServer, tmp_path: Path
) -> None:
    link = Link(mlflow)
    settings = {
        "nats_url": own_broker.url,
        "mlflow_uri": link.url,
        "mlflow_experiment": "killed",
        "mlflow_trace_url": "https://traces.example.com/{trace}",
        "ack_wait": 1,
    }
    async with open_job_harness(own_broker.url) as harness:
        with ServiceProcess("services.scheduler", tmp_path, **settings) as scheduler:
            # Nothing has been uploaded, so it fails at once.
            await harness.submit(EvaluateSpec(input="no/questions.jsonl", collection="docs"), "killed")
            assert (await harness.ended("killed", patience=PATIENCE)).state is JobState.FAILED
            scheduler.signal(signal.SIGKILL)
        async with link.whole():
            with ServiceProcess("services.scheduler", tmp_path / "next", **settings):
                run = await copied(mlflow, "killed", "killed", "FAILED")
        job = await harness.job_store.get("default", "killed")
    assert len(mlflow.runs("killed")) == 1
    assert job.facts is not None
    assert tags(run)["sluice.trace"] == job.facts.trace != ""
    assert f"https://traces.example.com/{job.facts.trace}" in tags(run)["mlflow.note.content"]


class Registered:
    """A collection with releases, and what MLflow's registry has of them."""

    def __init__(self, harness: JobHarness, mlflow: MLflowServer, collection: str) -> None:
        self.store = ReleaseStore(harness.bus.jetstream)
        self.collections = Collections(harness.bus.jetstream)
        self.name = collection
        self.model = f"sluice.default.{collection}"
        self._mlflow = mlflow

    async def release(self, version: str, **more: Any) -> str:
        """Make a release of a version, as the gateway does."""
        collection, _ = await self.collections.create("default", self.name)
        content = ReleaseContent.of(collection, collection.live).model_copy(update={"version": version})
        name = release_name(content.hash)
        await self.store.put(
            Release(name=name, tenant="default", hash=content.hash, content=content, created_at=time.time(), **more)
        )
        return name

    async def go_live(self, name: str) -> None:
        collection = await self.collections.get("default", self.name)
        live = collection.live
        await self.collections.update(collection, lambda now: now.changed(live.name, release=name))
        for release, stage in ((live.release, ReleaseStage.ARCHIVED), (name, ReleaseStage.LIVE)):
            event = ReleaseEvent(at=time.time(), stage=stage, by="ann", job=f"promote-{name}")
            await self.store.note("default", release, event)

    async def shows(self, aliases: dict[str, str], stages: dict[str, str]) -> None:
        """Wait until the registry has these releases by their aliases, and these stages of the releases."""

        async def look() -> bool:
            versions = await asyncio.to_thread(self._mlflow.model_versions, self.model)
            named = {number: tags["sluice.release"] for number, tags in versions.items()}
            found = await asyncio.to_thread(self._mlflow.aliases, self.model) if versions else {}
            return {alias: named.get(number, "") for alias, number in found.items()} == aliases and {
                tags["sluice.release"]: tags["sluice.stage"] for tags in versions.values()
            } == stages

        await until(look, f"{aliases} and {stages} in MLflow", patience=PATIENCE)

    async def tags(self, name: str) -> dict[str, str]:
        versions = await asyncio.to_thread(self._mlflow.model_versions, self.model)
        (found,) = [tags for tags in versions.values() if tags["sluice.release"] == name]
        return found


@asynccontextmanager
async def registering(harness: JobHarness, settings: TrackingSettings) -> AsyncIterator[ReleaseMirror]:
    async with mirror_of(harness, settings) as runs, anyio.create_task_group() as tasks:
        client = MLflowClient(settings)
        jetstream = harness.bus.jetstream
        store, collections = ReleaseStore(jetstream), Collections(jetstream)
        mirror = ReleaseMirror(MLflowRegistry(client), settings, store, collections, runs)
        worker = ReleaseCopyWorker(harness.bus, mirror, settings, ack_wait=1.0)
        tasks.start_soon(worker.run)
        yield mirror
        await worker.drain(5)
        tasks.cancel_scope.cancel()
        await client.close()


async def test_releases_are_registered_with_where_they_are_from_and_their_stages_follow(
    mlflow: MLflowServer, harness: JobHarness
) -> None:
    async def perform(context: JobContext) -> None:
        context.outputs["ndcg"] = 0.8

    settings, registered = settings_of(mlflow.url, "trained"), Registered(harness, mlflow, "stories")
    async with copying(harness, settings), harness.working({"tune": perform}):
        await harness.submit(SPEC, "training")
        run = await copied(mlflow, "trained", "training", "FINISHED")
    origin = ModelOrigin(
        name="m-0123456789ab", kind="embedder", hash="0" * 64, job="training", dataset=DatasetOrigin(hash="d1")
    )
    measured = Evaluation(job="measured", metrics={"mrr": 0.75, "version": "v2"})
    first = await registered.release("v1", description="what we have")  # before anybody copies
    async with registering(harness, settings):
        second = await registered.release("v2", models=(origin,), evaluations=(measured,), by="ann")
        await registered.shows({}, {first: "candidate", second: "candidate"})
        await registered.go_live(first)
        await registered.shows({"live": first}, {first: "live", second: "candidate"})
        await registered.store.set_alias(await registered.store.get("default", second), "champion")
        await registered.store.set_alias(await registered.store.get("default", second), "v7")  # not one of MLflow's
        await registered.shows({"live": first, "champion": second}, {first: "live", second: "candidate"})
        await registered.go_live(second)
        await registered.shows({"live": second, "champion": second}, {first: "archived", second: "live"})
        found = await registered.tags(second)
        assert (found["sluice.dataset"], found["sluice.training"]) == ("d1", "training")
        assert (found["sluice.metric.mrr"], found["mlflow.user"]) == ("0.75", "ann")
        assert mlflow.run_of_version(registered.model, "2") == run["info"]["run_id"]
        await registered.store.remove_alias("default", registered.name, "champion")
        await registered.store.delete(await registered.store.get("default", first))
        await registered.shows({"live": second}, {second: "live"})


async def test_any_number_of_copies_of_a_release_are_one(mlflow: MLflowServer, harness: JobHarness) -> None:
    settings, registered = settings_of(mlflow.url, "many"), Registered(harness, mlflow, "many")
    names = [await registered.release(f"v{number}") for number in range(4)]
    async with registering(harness, settings) as one, registering(harness, settings) as other:
        await asyncio.gather(*(mirror.copy("default", registered.name) for mirror in (one, other, one)))
        await one.copy("default", registered.name)
        await registered.shows({}, dict.fromkeys(names, "candidate"))
    assert len(mlflow.model_versions(registered.model)) == len(names)


async def test_a_release_that_is_deleted_while_its_collection_is_copied_leaves_no_copy(
    mlflow: MLflowServer, harness: JobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, registered = settings_of(mlflow.url, "deleted"), Registered(harness, mlflow, "deleted")
    first, second = [await registered.release(f"v{number}") for number in range(2)]
    async with registering(harness, settings) as mirror:
        await registered.shows({}, {first: "candidate", second: "candidate"})
        known = [await mirror._releases.list("default", registered.name)]
        await registered.store.delete(await registered.store.get("default", first))
        await registered.shows({}, {second: "candidate"})
        list_releases = mirror._releases.list

        async def late(tenant: str, collection: str) -> Any:
            return known.pop() if known else await list_releases(tenant, collection)

        monkeypatch.setattr(mirror._releases, "list", late)
        await mirror.copy("default", registered.name)
        assert known == []
        await registered.shows({}, {second: "candidate"})
