"""Commands as Kubernetes Jobs: what is built, what is seen, and what happens when connections and workers break off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.scheduler.commands.kubernetes import sweep
from services.scheduler.commands.kubernetes.manifest import job_manifest, job_name
from services.scheduler.commands.program import Program
from services.scheduler.commands.settings import CommandSettings
from shared.contracts.jobs import CommandSpec, Job, JobOptions, JobState, Resources, Toleration
from shared.contracts.problems import Problem
from shared.tasks import background
from tests.harness.broker import NatsServer
from tests.harness.command_cases import CommandCases, Place
from tests.harness.command_harness import CommandHarness, WorkerProcess
from tests.harness.fake_kubernetes import ROLE, FakeKubernetes, FakePod
from tests.harness.kubelet import run_pods
from tests.harness.stage_harness import open_stage_harness, until

pytestmark = pytest.mark.anyio

SPEC = CommandSpec(image="trainer:1", args=("--epochs", "3"))


@pytest.fixture
async def server() -> AsyncIterator[FakeKubernetes]:
    async with FakeKubernetes() as server:
        yield server


@pytest.fixture
async def command_harness(broker: NatsServer, server: FakeKubernetes, tmp_path: Path) -> AsyncIterator[CommandHarness]:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        yield CommandHarness(harness, kubernetes=True, kubernetes_config=server.kubeconfig(tmp_path))


class TestFakeCluster(CommandCases):
    @pytest.fixture
    async def place(self, broker: NatsServer, server: FakeKubernetes, tmp_path: Path) -> AsyncIterator[Place]:
        config = server.kubeconfig(tmp_path)
        async with open_stage_harness(broker.url, ack_wait=1.0) as harness, background(run_pods(server)):

            def command_harness(**settings: Any) -> CommandHarness:
                return CommandHarness(harness, kubernetes=True, kubernetes_config=config, **settings)

            yield Place(command_harness(), "busybox", command_harness)


async def start(
    command_harness: CommandHarness, server: FakeKubernetes, spec: CommandSpec = SPEC, **options: Any
) -> FakePod:
    """Submit a command and let its first Pod run."""
    await command_harness.submit(spec, **options)
    job = await server.job()
    return server.make_pod(job["metadata"]["name"]).runs()


def finish(server: FakeKubernetes, pod: FakePod) -> None:
    pod.ends(0)
    server.complete(next(iter(server.objects["jobs"])))


# What is built


def build(spec: CommandSpec, settings: CommandSettings | None = None, **members: Any) -> dict[str, Any]:
    job = Job(**({"id": "Job_1", "kind": "command", "tenant": "acme", "created_at": 0, "attempt": 2} | members))
    chosen = settings or CommandSettings()
    name = job_name(chosen.kubernetes_prefix, job)
    manifest = job_manifest(name, job, Program.of(spec), chosen, facts={"SLUICE_JOB": job.id}, remaining=90.5)
    kubernetes_validate.validate(manifest, "1.34", strict=True)
    return manifest


def test_a_job_has_all_that_its_spec_says() -> None:
    spec = CommandSpec(
        image="trainer:1",
        command=("python", "train.py"),
        args=("--epochs", "3"),
        env={"MODE": "fast"},
        resources=Resources(cpu="4", memory="16Gi", gpus=2),
        node_selector={"gpu": "a100"},
        tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
        service_account="trainer",
        completions=4,
        parallelism=2,
        backoff_limit=3,
        ttl_seconds=600,
    )
    job = build(spec)["spec"]
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (4, 2, "Indexed")
    assert (job["backoffLimit"], job["ttlSecondsAfterFinished"], job["activeDeadlineSeconds"]) == (3, 600, 96)
    pod = job["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("trainer", True)
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (container,) = pod["containers"]
    assert (container["image"], container["command"], container["args"]) == (
        "trainer:1",
        ["python", "train.py"],
        ["--epochs", "3"],
    )
    assert container["env"] == [{"name": "SLUICE_JOB", "value": "Job_1"}, {"name": "MODE", "value": "fast"}]
    amounts = {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}


def test_pods_meet_the_restricted_standard_and_get_no_token() -> None:
    pod = build(SPEC)["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)


def test_pods_have_the_priority_that_the_setting_names_or_the_clusters() -> None:
    assert "priorityClassName" not in build(SPEC)["spec"]["template"]["spec"]
    pod = build(SPEC, CommandSettings(kubernetes_priority_class="sluice-batch"))["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "sluice-batch"


def test_labels_are_valid_and_take_the_place_of_no_other() -> None:
    options = JobOptions(labels={"team": "ml & search", "app.kubernetes.io/name": "gateway", "***": "x"})
    labels = build(SPEC, options=options, id="_" + "x" * 63)["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "sluice-command"
    assert labels["labels.sluice.io/team"] == "ml-search"
    assert labels["labels.sluice.io/app.kubernetes.io-name"] == "gateway"
    assert labels["sluice.io/job"] == "x" * 63
    assert not any(value == "x" for value in labels.values())


def test_names_follow_from_the_job_and_its_try_alone() -> None:
    def name(**members: Any) -> str:
        return job_name("a-long-prefix-16", Job(**({"id": "X" * 64, "kind": "command", "created_at": 0} | members)))

    names = {name(), name(attempt=100), name(tenant="other"), name(id="Y" * 64)}
    assert name() == name(created_at=1)
    assert len(names) == 4
    assert max(map(len, names)) <= 54


def test_the_role_that_is_shipped_is_valid() -> None:
    for thing in yaml.safe_load_all(ROLE.read_text()):
        kubernetes_validate.validate(thing, "1.34", strict=True)


def test_a_command_without_an_image_is_no_kubernetes_job() -> None:
    with pytest.raises(Problem, match="needs an `image`"):
        build(CommandSpec(command=("true",)))


# What is seen


async def test_lines_and_states_are_shown_while_they_come(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        await command_harness.submit(SPEC)
        name = (await server.job())["metadata"]["name"]
        pod = server.make_pod(name)
        pod.unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
        await command_harness.says("waiting for a node: 0/3 nodes are available")
        pod.waits("ImagePullBackOff", 'Back-off pulling image "trainer:1"')
        await command_harness.says("starting: ImagePullBackOff: Back-off pulling")
        pod.runs().says("epoch 1")
        await command_harness.says("epoch 1")
        pod.says("epoch 2")
        await command_harness.says("epoch 2")
        finish(server, pod)
        job = await command_harness.ended()
    assert (job.state, job.progress.done, job.progress.total) == (JobState.SUCCEEDED, 1, 1)
    assert (await command_harness.log()).splitlines()[-2:] == ["epoch 1", "epoch 2"]


async def test_a_pod_that_runs_out_of_memory_is_told_so(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.says("loading the model")
        pod.ends(137, "OOMKilled")
        server.fail_job((await server.job())["metadata"]["name"])
        job = await command_harness.ended()
    assert job.error is not None
    assert job.error.detail == "The command took more memory than its limit and was killed:\nloading the model"


async def test_a_pod_that_was_evicted_is_told_so(command_harness: CommandHarness, server: FakeKubernetes) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        server.update(
            "pods",
            pod.name,
            lambda thing: thing.update(status={"phase": "Failed", "reason": "Evicted", "message": "low on disk"}),
        )
        pod.ended = True
        server.fail_job((await server.job())["metadata"]["name"])
        job = await command_harness.ended()
    assert job.error is not None
    assert "Evicted:\nlow on disk" in job.error.detail


async def test_a_deadline_that_kubernetes_met_fails_the_job(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.ends(143)
        server.remove("pods", pod.name)
        server.fail_job((await server.job())["metadata"]["name"], "DeadlineExceeded")
        job = await command_harness.ended()
    assert job.error is not None
    assert "deadline" in job.error.detail


async def test_a_job_that_somebody_deletes_fails_and_can_be_retried(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        await start(command_harness, server)
        server.remove("jobs", (await server.job())["metadata"]["name"])
        job = await command_harness.ended()
        assert job.error is not None
        assert "was deleted" in job.error.detail
        await command_harness.job_store.requeue(SPEC, job, attempt=2, reopen=True)
        await server.until(lambda: len(server.created) == 2, "another Job")
        finish(server, server.make_pod(server.created[-1]).runs())

        async def succeeded() -> bool:
            return (await command_harness.job()).state is JobState.SUCCEEDED

        await until(succeeded, "the second try's success")
    assert server.created[0] != server.created[1]


@pytest.mark.parametrize(("status", "type_"), [(422, "invalid-request"), (403, "command-refused")])
async def test_a_job_that_the_server_does_not_take_fails_at_once(
    command_harness: CommandHarness, server: FakeKubernetes, status: int, type_: str
) -> None:
    server.fail("create jobs", status)
    job = await command_harness.run(SPEC)
    assert job.error is not None
    assert (job.attempt, job.error.type.rpartition(":")[2]) == (1, type_)


# What breaks off


async def test_a_watch_that_is_cut_goes_on_without_loss(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.says("one")
        await command_harness.says("one")
        watches = server.served["watch jobs"], server.served["list jobs"]
        server.cut("watch")
        await server.reached("watch jobs", watches[0] + 1)
        finish(server, pod)
        assert (await command_harness.ended()).state is JobState.SUCCEEDED
    assert server.served["list jobs"] == watches[1]


async def test_a_watch_whose_place_is_forgotten_lists_again(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        await server.until(lambda: server.open_streams["watch"] == 2, "two watches")
        lists = server.served["list jobs"], server.served["list pods"]
        server.forget()
        server.cut("watch")
        await server.reached("list jobs", lists[0] + 1)
        await server.reached("list pods", lists[1] + 1)
        finish(server, pod)
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


async def test_a_bookmark_moves_the_place_of_a_watch(command_harness: CommandHarness, server: FakeKubernetes) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        await server.until(lambda: server.open_streams["watch"] == 2, "two watches")
        server.fail("list jobs", 500, times=1000)  # whoever loses his place would have to list
        watches = server.served["watch jobs"]
        server.bookmark()
        await server.reached("watch jobs", watches + 1)
        finish(server, pod)
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


async def test_errors_that_pass_are_waited_for(command_harness: CommandHarness, server: FakeKubernetes) -> None:
    server.fail("get jobs", 500)
    server.fail("create jobs", 429, Retry_After="0")
    server.fail("create jobs", 503)
    server.fail("list jobs", 500, times=2)
    server.fail("watch jobs", 500)
    server.fail("watch pods", 0)
    server.fail("log", 500)
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.says("said once")
        await command_harness.says("said once")
        finish(server, pod)
        job = await command_harness.ended()
    assert (job.state, job.attempt, len(server.created)) == (JobState.SUCCEEDED, 1, 1)
    assert (await command_harness.log()).splitlines() == ["said once"]


async def test_an_answer_that_is_lost_does_not_start_the_job_twice(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    server.fail("create jobs", 0, after=True)
    async with command_harness.working():
        pod = await start(command_harness, server)
        finish(server, pod)
        job = await command_harness.ended()
    assert (job.state, len(server.created), server.served["create jobs"]) == (JobState.SUCCEEDED, 1, 2)


async def test_a_log_that_is_cut_again_and_again_has_every_line_once(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        for number in range(6):
            for word, together in (("line", False), ("twin", True)):
                pod.says(f"{word} {number}", together=together)
                await command_harness.says(f"{word} {number}")
                streams = server.served["log"]
                server.cut("log")
                await server.reached("log", streams + 1)
        pod.says("the last")
        finish(server, pod)
        await command_harness.ended()
    assert (await command_harness.log()).splitlines() == [
        *(f"{word} {number}" for number in range(6) for word in ("line", "twin")),
        "the last",
    ]


async def test_an_api_that_stays_away_puts_the_job_off_and_the_next_try_takes_the_same_job_up(
    broker: NatsServer, server: FakeKubernetes, tmp_path: Path
) -> None:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        command_harness = CommandHarness(
            harness, kubernetes=True, kubernetes_config=server.kubeconfig(tmp_path), kubernetes_patience=0.0
        )
        async with command_harness.working():
            pod = await start(command_harness, server, retry={"limit": 100, "delay": 0.05, "max_delay": 0.05})
            pod.says("one")
            await command_harness.says("one")
            for what in ("get jobs", "list jobs", "watch jobs", "list pods", "watch pods"):
                server.fail(what, 0, times=10_000)
            server.cut("watch")
            await server.reached("get jobs", server.served["get jobs"] + 2)
            server.heal()
            pod.says("two")
            finish(server, pod)
            job = await command_harness.ended()
        assert job.state is JobState.SUCCEEDED
        assert job.attempt > 1
        assert len(server.created) == 1
        assert (await command_harness.log()).splitlines() == ["one", "two"]


async def test_credentials_that_have_expired_are_read_again(
    command_harness: CommandHarness, server: FakeKubernetes, tmp_path: Path
) -> None:
    server.kubeconfig(tmp_path, token="expired")
    async with command_harness.working():
        await command_harness.submit(SPEC)
        await server.until(lambda: server.refused, "a refusal")
        server.kubeconfig(tmp_path)
        name = (await server.job())["metadata"]["name"]
        finish(server, server.make_pod(name).runs())
        assert (await command_harness.ended()).state is JobState.SUCCEEDED


# Cancels


async def test_a_cancelled_job_waits_for_its_pods_to_be_gone(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    server.keeps_deleted = True
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.says("ready")
        await command_harness.says("ready")
        await command_harness.job_store.cancel("t", "j1")
        watches = server.served["watch jobs"]
        await server.reached("delete jobs")
        await server.reached("watch jobs", watches + 1)
        name = (await server.job())["metadata"]["name"]
        assert (await command_harness.job()).state is JobState.RUNNING
        server.finish_deletion(name)
        assert (await command_harness.ended()).state is JobState.CANCELLED

        async def no_stream_is_open() -> bool:
            return not any(server.open_streams.values())

        await until(no_stream_is_open, "no stream open")


async def test_a_cancel_while_the_job_is_made_leaves_none(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working(), server.holding("create jobs") as held:
        await command_harness.submit(SPEC)
        await held.wait()
        await command_harness.job_store.cancel("t", "j1")
        with suppress(TimeoutError):  # time enough to look for the Job before it is there
            async with asyncio.timeout(1.0):
                await server.when(lambda: server.served["delete jobs"])
        held.release()
        assert (await command_harness.ended()).state is JobState.CANCELLED
    assert len(server.created) == 1
    assert server.objects["jobs"] == {}


async def test_what_was_cancelled_while_no_worker_heard_is_swept_away(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.says("ready")
        await command_harness.says("ready")
    assert await sweep(command_harness.settings, command_harness.job_store, command_harness.harness.jetstream) == 0
    await command_harness.job_store.update(
        "t", "j1", lambda entry: entry.model_copy(update={"state": JobState.CANCELLED})
    )
    assert await sweep(command_harness.settings, command_harness.job_store, command_harness.harness.jetstream) == 1
    assert server.objects["jobs"] == {}


# Workers that die


async def test_a_worker_killed_between_request_and_answer_leaves_one_job(
    command_harness: CommandHarness, broker: NatsServer, server: FakeKubernetes, tmp_path: Path
) -> None:
    settings = {"kubernetes": True, "kubernetes_config": server.kubeconfig(tmp_path)}
    async with server.holding("create jobs", after=True) as held:
        with WorkerProcess(broker.url, **settings) as worker:
            await command_harness.submit(SPEC)
            await held.wait()
            worker.kill()
        held.release()
    async with command_harness.working():
        pod = server.make_pod((await server.job())["metadata"]["name"]).runs()
        finish(server, pod)
        job = await command_harness.ended()
    assert (job.state, job.attempt, len(server.created)) == (JobState.SUCCEEDED, 1, 1)


async def test_a_job_that_ended_while_no_worker_ran_is_told_by_the_next(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.says("one")
        await command_harness.says("one")
    pod.says('::output:: {"loss": 0.5}')
    finish(server, pod)
    async with command_harness.working():
        job = await command_harness.ended()
    assert (job.state, job.outputs, len(server.created)) == (JobState.SUCCEEDED, {"loss": 0.5}, 1)
    assert (await command_harness.log()).splitlines() == ["one", '::output:: {"loss": 0.5}']


async def test_a_job_whose_end_nobody_saw_is_not_started_again_unasked(
    command_harness: CommandHarness, server: FakeKubernetes
) -> None:
    async with command_harness.working():
        pod = await start(command_harness, server)
        pod.says("one")
        await command_harness.says("one")
    server.finish_deletion((await server.job())["metadata"]["name"])
    async with command_harness.working():
        job = await command_harness.ended()
    assert job.error is not None
    assert "nobody saw its end" in job.error.detail
    assert len(server.created) == 1


async def test_many_jobs_at_once_keep_apart(command_harness: CommandHarness, server: FakeKubernetes) -> None:
    async with command_harness.working(), asyncio.timeout(60), background(run_pods(server)):
        jobs = [f"j{number}" for number in range(6)]
        for name in jobs:
            script = f"""echo '::output:: {{"me": "{name}"}}'"""
            await command_harness.submit(CommandSpec(image="i", command=("sh", "-c", script)), job=name)
        for name in jobs:
            assert (await command_harness.ended(name)).outputs == {"me": name}
