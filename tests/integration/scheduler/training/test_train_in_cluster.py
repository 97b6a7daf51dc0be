"""Trainings in a cluster: the object that fits what the cluster serves, followed to its end, and taken up again."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.jobs import JobState
from shared.tasks import background
from tests.harness.broker import NatsServer
from tests.harness.fake_kubernetes import FakeKubernetes
from tests.harness.kubelet import run_pods
from tests.harness.training import ASKED, TrainHarness, make_bert, open_train_harness, rows

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
async def server() -> AsyncIterator[FakeKubernetes]:
    async with FakeKubernetes() as server:
        yield server


@pytest.fixture
async def train_harness(broker: NatsServer, server: FakeKubernetes, tmp_path: Path) -> AsyncIterator[TrainHarness]:
    async with open_train_harness(
        broker.url,
        kubernetes=True,
        kubernetes_config=server.kubeconfig(tmp_path),
        training_image="sluice/trainer:1",
    ) as harness:
        await harness.put_rows(rows(asked=ASKED[:5]), rows(asked=ASKED[5:]))
        yield harness


@pytest.mark.parametrize(("kind", "container"), [("trainjobs", "node"), ("rayjobs", "ray-job-submitter")])
async def test_an_operators_object_is_followed_across_workers(
    train_harness: TrainHarness, server: FakeKubernetes, kind: str, container: str
) -> None:
    server.operators = {"trainjobs", "rayjobs"} if kind == "trainjobs" else {"rayjobs"}
    await train_harness.submit(train_harness.spec(processes=2))
    async with train_harness.working():
        await server.until(lambda: server.objects[kind], "the object")
        (name,) = server.objects[kind]
        pod = server.make_operator_pod(kind, name, container, index=0).runs()
        pod.says('::metrics:: {"step": 1, "values": {"loss": 0.5}}')
        pod.says("storing the model")
        await train_harness.says("storing the model")
    async with train_harness.working():
        pod.says('::output:: {"model": "m-0123456789ab"}')
        pod.ends(0)
        done = {"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Complete"}
        condition = {"type": "Complete", "status": "True", "reason": "JobsCompleted", "message": ""}
        status = {"conditions": [condition]} if kind == "trainjobs" else done
        server.update(kind, name, lambda thing: thing.update(status=status))
        job = await train_harness.ended()
    assert (job.state, job.attempt, job.outputs) == (JobState.SUCCEEDED, 1, {"model": "m-0123456789ab"})
    assert server.created == [name]
    assert server.objects["jobs"] == {}


async def test_a_ray_job_that_fails_says_why(train_harness: TrainHarness, server: FakeKubernetes) -> None:
    server.operators = {"rayjobs"}
    await train_harness.submit(train_harness.spec())
    async with train_harness.working():
        await server.until(lambda: server.objects["rayjobs"], "the RayJob")
        (name,) = server.objects["rayjobs"]
        status = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed", "reason": "AppFailed", "message": "exit 1"}
        server.update("rayjobs", name, lambda thing: thing.update(status=status))
        job = await train_harness.ended()
    assert job.error is not None
    assert job.error.type.endswith("training-failed")
    assert "AppFailed: exit 1" in job.error.detail


async def test_a_cancel_removes_the_object_and_the_checkpoints(
    train_harness: TrainHarness, server: FakeKubernetes
) -> None:
    server.operators = {"trainjobs"}
    await train_harness.submit(train_harness.spec())
    async with train_harness.working():
        await server.until(lambda: server.objects["trainjobs"], "the TrainJob")
        await train_harness.job_store.cancel("t", "j1")
        assert (await train_harness.ended()).state is JobState.CANCELLED
    assert server.objects["trainjobs"] == {}
    assert await train_harness.checkpoints.list("t", "j1") == []


async def test_the_pods_of_a_job_train_and_publish(
    train_harness: TrainHarness, server: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pods are processes here, which have no Secrets mounted.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    base = await train_harness.put_base(make_bert(tmp_path / "tiny"))
    password = tmp_path / "password"
    password.write_text("-")
    monkeypatch.setattr("services.scheduler.training.program.CREDENTIAL", str(tmp_path))
    async with background(run_pods(server)):
        job = await train_harness.trains(train_harness.spec(base, steps=10))
    assert str(job.outputs["model"]).startswith("m-")
    (manifest,) = server.objects["jobs"].values()
    assert manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "sluice/trainer:1"
    assert server.objects["services"] == {}
