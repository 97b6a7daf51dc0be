"""Commands on a real cluster: the one that KUBECONFIG names.

They run in its context's namespace, and leave Jobs there that remove themselves. SLUICE_TEST_IMAGE is an image with a
shell (busybox by default).
"""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.scheduler.commands.kubernetes import sweep
from shared.contracts.jobs import JobState, Resources
from tests.harness.broker import NatsServer
from tests.harness.command_cases import CommandCases, Place
from tests.harness.command_harness import CommandHarness, WorkerProcess
from tests.harness.stage_harness import open_stage_harness, until

KUBECONFIG = os.environ.get("KUBECONFIG", "")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not KUBECONFIG or not Path(KUBECONFIG.split(os.pathsep)[0]).exists(),
        reason="KUBECONFIG names no cluster",
    ),
]


@pytest.fixture
async def place(own_broker: NatsServer) -> AsyncIterator[Place]:
    async with open_stage_harness(own_broker.url, ack_wait=1.0) as harness:
        prefix = f"t{uuid.uuid4().hex[:8]}"

        def command_harness(**settings: Any) -> CommandHarness:
            cluster = {"kubernetes": True, "kubernetes_config": KUBECONFIG, "kubernetes_prefix": prefix}
            return CommandHarness(harness, **cluster, kubernetes_run_as_user=65532, **settings)

        yield Place(
            command_harness(), os.environ.get("SLUICE_TEST_IMAGE", "busybox:1.37"), command_harness, {"ttl_seconds": 60}
        )


class TestRealCluster(CommandCases):
    async def test_a_command_that_takes_too_much_memory_is_told_so(self, place: Place) -> None:
        greedy = place.shell("tail /dev/zero", resources=Resources(cpu="100m", memory="32Mi"))
        job = await place.command_harness.run(greedy)
        assert job.error is not None
        assert "memory" in job.error.detail

    async def test_a_worker_that_is_killed_leaves_the_job_to_the_next(
        self, place: Place, own_broker: NatsServer
    ) -> None:
        command_harness = place.command_harness
        await command_harness.submit(place.shell("echo first; sleep 5; echo last"))
        with WorkerProcess(
            own_broker.url, **command_harness.settings.model_dump(mode="json", exclude_none=True)
        ) as worker:
            running = await command_harness.says("first")
            worker.kill()
        async with command_harness.working():
            assert (await command_harness.ended()).state is JobState.SUCCEEDED
        assert len(await place.pods(running)) == 1

    async def test_a_job_that_nobody_wants_is_swept_away(self, place: Place) -> None:
        command_harness = place.command_harness
        await command_harness.submit(place.shell("echo ready; sleep 600"))
        async with command_harness.working():
            job = await command_harness.says("ready")
        await command_harness.job_store.update(
            "t", "j1", lambda entry: entry.model_copy(update={"state": JobState.CANCELLED})
        )
        assert await sweep(command_harness.settings, command_harness.job_store, command_harness.harness.jetstream) == 1

        async def gone() -> bool:
            return not await place.exists(job)

        await until(gone, "the Job gone")
