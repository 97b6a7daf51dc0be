"""Commands whose Pods cannot be created, placed or started: what their jobs say, and when they fail.

The messages are those of Kubernetes' own controllers.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.jobs import CommandSpec, JobState
from tests.harness.broker import NatsServer
from tests.harness.command_harness import CommandHarness
from tests.harness.fake_kubernetes import FakeKubernetes, FakePod
from tests.harness.stage_harness import open_stage_harness

pytestmark = pytest.mark.anyio

SPEC = CommandSpec(image="trainer:1")

QUOTA = (
    'Error creating: pods "{pod}" is forbidden: exceeded quota: commands, requested: pods=1, used: pods=100, '
    "limited: pods=100"
)
ACCOUNT = (
    'Error creating: pods "{pod}" is forbidden: error looking up service account team/trainer: '
    'serviceaccount "trainer" not found'
)
STANDARD = 'Error creating: pods "{pod}" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'

Harnesses = Callable[..., CommandHarness]


@pytest.fixture
async def server() -> AsyncIterator[FakeKubernetes]:
    async with FakeKubernetes() as server:
        yield server


@pytest.fixture
async def harnesses(broker: NatsServer, server: FakeKubernetes, tmp_path: Path) -> AsyncIterator[Harnesses]:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:

        def make(**settings: Any) -> CommandHarness:
            config = server.kubeconfig(tmp_path)
            return CommandHarness(harness, kubernetes=True, kubernetes_config=config, **settings)

        yield make


async def submitted(command_harness: CommandHarness, server: FakeKubernetes, spec: CommandSpec = SPEC) -> str:
    """Submit a command. Returns the name of its Kubernetes Job."""
    await command_harness.submit(spec)
    return str((await server.job())["metadata"]["name"])


def finish(server: FakeKubernetes, *pods: FakePod) -> None:
    for pod in pods:
        pod.ends(0)
    server.complete(next(iter(server.objects["jobs"])))


@pytest.mark.parametrize("message", [QUOTA, ACCOUNT, STANDARD])
async def test_a_pod_that_cannot_be_created_is_told_while_the_job_waits(
    harnesses: Harnesses, server: FakeKubernetes, message: str
) -> None:
    command_harness = harnesses()
    async with command_harness.working():
        name = await submitted(command_harness, server)
        server.warn(name, "FailedCreate", message.format(pod=f"{name}-x7k2p"))
        reason = message.partition(" is ")[2]
        job = await command_harness.says(f"waiting for a Pod: {reason}")
        assert job.state is JobState.RUNNING
        finish(server, server.make_pod(name).runs())
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


async def test_the_same_refusal_of_another_pod_is_told_once(harnesses: Harnesses, server: FakeKubernetes) -> None:
    command_harness = harnesses()
    async with command_harness.working():
        name = await submitted(command_harness, server)
        for number in range(3):
            server.warn(name, "FailedCreate", QUOTA.format(pod=f"{name}-{number}"))
            seen = server.served["list events"]
            await server.reached("list events", seen + 1)
        finish(server, server.make_pod(name).runs())
        await command_harness.ended()
    assert (await command_harness.log()).count("exceeded quota") == 1


async def test_a_pod_that_cannot_be_created_fails_the_job_after_a_time(
    harnesses: Harnesses, server: FakeKubernetes
) -> None:
    command_harness = harnesses(kubernetes_start_seconds=0.0)
    async with command_harness.working():
        name = await submitted(command_harness, server)
        server.warn(name, "FailedCreate", ACCOUNT.format(pod=f"{name}-x7k2p"))
        job = await command_harness.ended()
    assert (job.state, server.objects["jobs"]) == (JobState.FAILED, {})
    assert job.error is not None
    assert 'serviceaccount "trainer" not found' in job.error.detail


async def test_pods_that_run_may_finish_while_others_cannot_be_created(
    harnesses: Harnesses, server: FakeKubernetes
) -> None:
    command_harness = harnesses(kubernetes_start_seconds=0.0)
    async with command_harness.working():
        spec = SPEC.model_copy(update={"completions": 2, "parallelism": 2})
        name = await submitted(command_harness, server, spec)
        first = server.make_pod(name, 0).runs()
        first.says("first")
        await command_harness.says("first")
        server.warn(name, "FailedCreate", QUOTA.format(pod=f"{name}-1-x7k2p"))
        await command_harness.says("exceeded quota")
        second = server.make_pod(name, 1).runs()
        finish(server, first, second)
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


async def test_a_pod_whose_status_says_nothing_is_explained_by_its_events(
    harnesses: Harnesses, server: FakeKubernetes
) -> None:
    command_harness = harnesses()
    async with command_harness.working():
        pod = server.make_pod(await submitted(command_harness, server))
        pod.scheduled()
        server.warn(pod.name, "FailedCreatePodSandBox", "Failed to create pod sandbox: no IP addresses available")
        await command_harness.says("starting: FailedCreatePodSandBox: Failed to create pod sandbox: no IP")
        finish(server, pod.runs())
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"])
async def test_an_image_that_cannot_be_had_fails_the_job_after_a_time(
    harnesses: Harnesses, server: FakeKubernetes, reason: str
) -> None:
    command_harness = harnesses(kubernetes_start_seconds=0.0)
    async with command_harness.working():
        pod = server.make_pod(await submitted(command_harness, server))
        pod.waits(reason, 'Back-off pulling image "trainer:1"')
        job = await command_harness.ended()
    assert job.error is not None
    assert f"{reason}: Back-off pulling image" in job.error.detail


async def test_a_pod_that_no_node_takes_fails_the_job_after_a_time_of_its_own(
    harnesses: Harnesses, server: FakeKubernetes
) -> None:
    command_harness = harnesses(kubernetes_start_seconds=900.0, kubernetes_node_seconds=0.0)
    async with command_harness.working():
        pod = server.make_pod(await submitted(command_harness, server))
        pod.unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
        job = await command_harness.ended()
    assert job.error is not None
    assert "3 Insufficient nvidia.com/gpu" in job.error.detail


async def test_a_pod_that_is_replaced_leaves_no_time_limit_behind(harnesses: Harnesses, server: FakeKubernetes) -> None:
    command_harness = harnesses(kubernetes_start_seconds=2.0)
    async with command_harness.working():
        name = await submitted(command_harness, server)
        stuck = server.make_pod(name)
        stuck.waits("ImagePullBackOff", 'Back-off pulling image "trainer:1"')
        await command_harness.says("ImagePullBackOff")
        server.remove("pods", stuck.name)
        other = server.make_pod(name).runs()
        for number in range(8):  # longer than the time limit
            other.says(f"epoch {number}")
            await command_harness.says(f"epoch {number}")
        finish(server, other)
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


async def test_a_role_without_events_lets_commands_run(harnesses: Harnesses, server: FakeKubernetes) -> None:
    server.fail("list events", 403)
    command_harness = harnesses()
    async with command_harness.working():
        name = await submitted(command_harness, server)
        await server.reached("list events")
        finish(server, server.make_pod(name).runs())
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


async def test_a_command_that_counts_itself_keeps_its_count_at_the_end(
    harnesses: Harnesses, server: FakeKubernetes
) -> None:
    command_harness = harnesses()
    async with command_harness.working():
        pod = server.make_pod(await submitted(command_harness, server)).runs()
        pod.says("::progress:: 240/240")
        pod.says("trained")
        await command_harness.says("trained")
        finish(server, pod)
        job = await command_harness.ended()
    assert (job.progress.done, job.progress.total) == (240, 240)
