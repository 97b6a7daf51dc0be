"""Metrics that a job logs are kept through its tries, however they end."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.scheduler.jobs.job_context import JobContext
from shared.contracts.jobs import DropSpec, JobState
from shared.contracts.metrics import METRICS_FILE
from shared.contracts.problems import Problem, ProblemType
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, delete_jobs, open_job_harness

pytestmark = pytest.mark.anyio

SPEC = DropSpec(collection="docs", table="docs-1")
QUICK = {"limit": 3, "delay": 0.1, "max_delay": 0.1}


@pytest.fixture
async def harness(broker: NatsServer) -> AsyncIterator[JobHarness]:
    await delete_jobs(broker.url)
    async with open_job_harness(broker.url) as job_harness:
        yield job_harness


async def logged(harness: JobHarness, job: str) -> list[tuple[int, dict[str, Any]]]:
    lines = map(json.loads, (await harness.artifacts.get("default", f"{job}/{METRICS_FILE}")).splitlines())
    return [(line.pop("step"), {name: value for name, value in line.items() if name != "at"}) for line in lines]


async def test_what_is_logged_is_an_artifact_of_the_job(harness: JobHarness) -> None:
    async def perform(context: JobContext) -> None:
        context.log_metrics(1, {"loss": 0.5})
        context.log_metrics(2, {"loss": math.nan, "score": 1})

    async with harness.working({"drop": perform}):
        await harness.submit(SPEC, "logs")
        job = await harness.ended("logs")
    assert (job.state, job.artifacts) == (JobState.SUCCEEDED, (METRICS_FILE,))
    assert await logged(harness, "logs") == [(1, {"loss": 0.5}), (2, {"loss": None, "score": 1.0})]


async def test_a_job_that_logs_nothing_has_no_file(harness: JobHarness) -> None:
    async def perform(_: JobContext) -> None:
        return

    async with harness.working({"drop": perform}):
        await harness.submit(SPEC, "silent")
        assert (await harness.ended("silent")).artifacts == ()


async def test_the_next_try_keeps_earlier_steps_and_replaces_what_repeats(harness: JobHarness) -> None:
    async def perform(context: JobContext) -> None:
        if context.job.attempt == 1:
            for step in range(5):
                context.log_metrics(step, {"loss": 1.0})
            raise Problem(ProblemType.STAGE_UNAVAILABLE, "later")
        for step in (3, 4):
            context.log_metrics(step, {"loss": 0.5})

    async with harness.working({"drop": perform}):
        await harness.submit(SPEC, "again", retry=QUICK)
        job = await harness.ended("again")
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert [values["loss"] for _, values in await logged(harness, "again")] == [1.0, 1.0, 1.0, 0.5, 0.5]


async def test_a_try_that_logs_nothing_more_names_the_file_of_the_one_before(harness: JobHarness) -> None:
    async def perform(context: JobContext) -> None:
        if context.job.attempt == 1:
            context.log_metrics(7, {"loss": 1.0})
            raise Problem(ProblemType.STAGE_UNAVAILABLE, "later")

    async with harness.working({"drop": perform}):
        await harness.submit(SPEC, "once", retry=QUICK)
        assert (await harness.ended("once")).artifacts == (METRICS_FILE,)
    assert await logged(harness, "once") == [(7, {"loss": 1.0})]


async def test_a_checkpoint_is_never_ahead_of_the_file(harness: JobHarness) -> None:
    saved = asyncio.Event()

    async def perform(context: JobContext) -> None:
        context.log_metrics(1, {"loss": 1.0})
        await context.save({"step": 1})
        saved.set()
        await asyncio.Event().wait()

    async with harness.working({"drop": perform}):
        await harness.submit(SPEC, "saves")
        await saved.wait()
        assert await logged(harness, "saves") == [(1, {"loss": 1.0})]
        await harness.job_store.cancel("default", "saves")
        await harness.ended("saves")


async def test_a_cancelled_job_keeps_what_it_has_logged(harness: JobHarness) -> None:
    begun = asyncio.Event()

    async def perform(context: JobContext) -> None:
        context.log_metrics(1, {"loss": 1.0})
        begun.set()
        await asyncio.Event().wait()

    async with harness.working({"drop": perform}):
        await harness.submit(SPEC, "stopped")
        await begun.wait()
        await harness.job_store.cancel("default", "stopped")
        job = await harness.ended("stopped")
    assert (job.state, job.artifacts) == (JobState.CANCELLED, (METRICS_FILE,))


async def test_a_job_that_fails_keeps_what_it_has_logged(harness: JobHarness) -> None:
    async def perform(context: JobContext) -> None:
        context.log_metrics(1, {"loss": 1.0})
        raise Problem(ProblemType.INVALID_REQUEST, "no")

    async with harness.working({"drop": perform}):
        await harness.submit(SPEC, "fails")
        job = await harness.ended("fails")
    assert (job.state, job.artifacts) == (JobState.FAILED, (METRICS_FILE,))
