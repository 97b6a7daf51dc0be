"""The scheduler is killed in the middle of pipelines and between ticks, and nothing of them is lost or done twice."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.jobs import Job, JobState, PipelineSpec, SwitchSpec
from shared.contracts.schedules import Schedule
from shared.stores.schedules import Schedules
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def job_harness(broker: NatsServer) -> AsyncIterator[JobHarness]:
    async with open_job_harness(broker.url) as job_harness:
        yield job_harness


def scheduler(folder: Path, broker: NatsServer) -> ServiceProcess:
    return ServiceProcess(
        "services.scheduler", folder, nats_url=broker.url, ack_wait=1.0, reader_workers=1, commands="process"
    )


def shell(script: str, **members: Any) -> dict[str, Any]:
    return {"job": {"kind": "command", "command": ["sh", "-c"], "args": [script]}, **members}


async def test_a_pipeline_ends_though_its_scheduler_is_killed_again_and_again(
    job_harness: JobHarness, broker: NatsServer, tmp_path: Path
) -> None:
    journal, gate = tmp_path / "journal", tmp_path / "gate"
    os.mkfifo(gate)
    steps = {
        "first": shell(f"echo first >> {journal}; echo '::output::{{\"n\": 3}}'"),
        "waits": shell(f"echo waits >> {journal}; read line < {gate}; echo $line >> {journal}", needs=["first"]),
        "each": shell(f"echo each ${{{{ item }}}} >> {journal}", each=["a", "b"], needs=["waits"]),
        "last": shell(f"echo last ${{{{ first.n }}}} >> {journal}", needs=["each"]),
    }

    async def said(line: str, times: int) -> bool:
        return journal.exists() and journal.read_text().splitlines().count(line) >= times

    async def ended() -> Job | None:
        job = await job_harness.job_store.get("default", "p")
        return job if job.state.ended else None

    await job_harness.submit(PipelineSpec.model_validate({"name": "test", "steps": steps}), "p")
    for life in (1, 2):
        with scheduler(tmp_path, broker):  # it is killed at the end of the block
            await until(lambda life=life: said("waits", life), f"the step at work in life {life}")
    with scheduler(tmp_path, broker):
        await until(lambda: said("waits", 3), "the step at work again")
        # The processes of the lives before are gone: the one that reads is the last.
        with gate.open("w") as writing:
            writing.write("done\n")
        job = await until(ended, "the pipeline at its end")
    assert job.state is JobState.SUCCEEDED, job.error
    lines = journal.read_text().splitlines()
    once = [line for line in lines if line != "waits"]
    assert sorted(once) == ["done", "each a", "each b", "first", "last 3"]
    assert once[-1] == "last 3"


async def test_a_schedule_ticks_through_the_deaths_of_the_scheduler_and_of_the_broker(
    job_harness: JobHarness, broker: NatsServer, tmp_path: Path
) -> None:
    spec = SwitchSpec(collection="nothing")
    made = Schedule.model_validate(
        {"name": "s", "tenant": "default", "spec": spec, "cron": "* * * * * *", "created_at": 0.0}
    )
    await Schedules(job_harness.bus.jetstream).put(made)

    async def ticked(job_harness: JobHarness, since: int) -> list[Job]:
        jobs = await job_harness.job_store.list("default", limit=1000)
        return jobs if len(jobs) >= since + 2 else []

    with scheduler(tmp_path, broker):  # it is killed at the end of the block
        jobs = await until(lambda: ticked(job_harness, 0), "ticks")
    with scheduler(tmp_path, broker):
        jobs = await until(lambda: ticked(job_harness, len(jobs)), "ticks after the death of the scheduler")
        broker.kill()
        broker.start()
        async with open_job_harness(broker.url) as other:
            jobs = await until(lambda: ticked(other, len(jobs)), "ticks after the death of the broker")
    ticks = [int(job.id.split("-")[2]) for job in jobs]
    assert len(set(ticks)) == len(ticks)
    assert max(ticks) - min(ticks) + 1 >= len(ticks)
