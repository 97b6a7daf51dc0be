"""What every cluster owes a command: the same cases for the fake one and for a real one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.scheduler.commands.kubernetes.cluster import Cluster
from services.scheduler.commands.kubernetes.manifest import job_name
from services.scheduler.commands.kubernetes.views import PodView
from shared.contracts.jobs import CommandSpec, Job, JobState
from tests.harness.command_harness import CommandHarness
from tests.harness.stage_harness import until

__all__ = ["CommandCases", "Place"]


@dataclass
class Place:
    """A harness whose commands run in a cluster, with an image that has a shell."""

    command_harness: CommandHarness
    image: str
    again: Callable[..., CommandHarness]
    members: dict[str, Any] = field(default_factory=dict)

    def shell(self, script: str, **members: Any) -> CommandSpec:
        return CommandSpec(image=self.image, command=("sh", "-c", script), **(self.members | members))

    async def pods(self, job: Job) -> list[PodView]:
        async with Cluster.connect(self.command_harness.settings) as cluster:
            return [PodView.of(thing) for thing in await cluster.pods(self.name(job))]

    async def exists(self, job: Job) -> bool:
        async with Cluster.connect(self.command_harness.settings) as cluster:
            return await cluster.job(self.name(job)) is not None

    def name(self, job: Job) -> str:
        return job_name(self.command_harness.settings.kubernetes_prefix, job)


class CommandCases:
    async def test_what_a_pod_prints_is_kept_and_its_outputs_are_the_jobs(self, place: Place) -> None:
        script = """echo one; echo '::output:: {"rows": 2}'; echo '::progress:: 2/3'; echo "$MINE $SLUICE_JOB" """
        job = await place.command_harness.succeeds(place.shell(script, env={"MINE": "yes"}))
        assert job.outputs == {"rows": 2}
        assert job.progress.message == "yes j1"
        assert (await place.command_harness.log()).splitlines()[-4:] == [
            "one",
            '::output:: {"rows": 2}',
            "::progress:: 2/3",
            "yes j1",
        ]

    async def test_an_exit_code_fails_the_job_with_its_last_words(self, place: Place) -> None:
        job = await place.command_harness.run(place.shell("echo 'no such model' >&2; exit 3"))
        assert (job.state, job.attempt) == (JobState.FAILED, 1)
        assert job.error is not None
        assert "exit code 3:\nno such model" in job.error.detail

    async def test_exit_code_75_asks_for_another_try(self, place: Place) -> None:
        job = await place.command_harness.succeeds(place.shell('test "$SLUICE_ATTEMPT" = 2 || exit 75'))
        assert job.attempt == 2

    async def test_failures_within_the_backoff_limit_start_another_pod(self, place: Place) -> None:
        job = await place.command_harness.run(place.shell("echo tried; exit 1", backoff_limit=1))
        assert job.state is JobState.FAILED
        assert (await place.command_harness.log()).count("tried") == 2

    async def test_a_cancel_deletes_the_job_and_its_pods(self, place: Place) -> None:
        command_harness = place.command_harness
        await command_harness.submit(place.shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"))
        async with command_harness.working():
            job = await command_harness.says("ready")
            await command_harness.job_store.cancel("t", "j1")
            assert (await command_harness.ended()).state is JobState.CANCELLED
        assert not await place.exists(job)
        assert await place.pods(job) == []

    async def test_a_job_is_taken_up_by_the_next_worker_and_never_started_twice(self, place: Place) -> None:
        command_harness = place.command_harness
        await command_harness.submit(place.shell("echo first; for i in 1 2 3 4 5 6 7 8; do sleep 1.5; echo $i; done"))
        async with command_harness.working():
            running = await command_harness.says("first")
        assert (await command_harness.job()).state is JobState.RUNNING
        async with command_harness.working():
            job = await command_harness.ended()
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
        assert [line for line in (await command_harness.log()).splitlines() if not line.startswith("sluice:")] == [
            "first",
            *"12345678",
        ]
        assert len(await place.pods(running)) == 1

    async def test_indexed_pods_know_their_index(self, place: Place) -> None:
        script = 'echo "I am $JOB_COMPLETION_INDEX"; echo "::output:: {\\"i$JOB_COMPLETION_INDEX\\": true}"'
        job = await place.command_harness.succeeds(place.shell(script, completions=3, parallelism=2))
        assert job.outputs == {"i0": True, "i1": True, "i2": True}
        assert {f"[{index}] I am {index}" for index in range(3)} <= set(
            (await place.command_harness.log()).splitlines()
        )

    async def test_an_image_that_cannot_be_had_is_told_and_at_last_given_up(self, place: Place) -> None:
        command_harness = place.again(kubernetes_start_seconds=0.0)
        job = await command_harness.run(CommandSpec(image="no.such.registry/nothing:1", command=("true",)))
        assert job.error is not None
        assert "no.such.registry/nothing:1" in job.error.detail or "Pull" in job.error.detail

        async def gone() -> bool:
            return not await place.exists(job)

        await until(gone, "the Job gone")

    async def test_a_deadline_ends_the_job_and_its_pods(self, place: Place) -> None:
        job = await place.command_harness.run(place.shell("sleep 600"), deadline=time.time() + 2)
        assert job.error is not None
        assert job.error.type.endswith("deadline-exceeded")
        assert not await place.exists(job)
        assert await place.pods(job) == []
