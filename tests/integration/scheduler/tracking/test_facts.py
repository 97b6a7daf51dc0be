"""What a run is noted to have run with."""

from collections.abc import AsyncIterator

import pytest

from services.scheduler.jobs.job_context import JobContext
from shared.contracts.documents import Document
from shared.contracts.jobs import DropSpec, EvaluateSpec, JobState
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.version import VERSION
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness

pytestmark = pytest.mark.anyio

SPEC = EvaluateSpec(collection="docs", input="set/questions.jsonl")
QUICK = {"limit": 3, "delay": 0.1, "max_delay": 0.1}


@pytest.fixture
async def harness(own_broker: NatsServer) -> AsyncIterator[JobHarness]:
    async with open_job_harness(own_broker.url) as job_harness:
        yield job_harness


async def nothing(_: JobContext) -> None:
    return


async def test_a_run_is_noted_with_the_versions_of_its_code_and_data(harness: JobHarness) -> None:
    jetstream = harness.bus.jetstream
    collection, _ = await Collections(jetstream).create("default", "docs")
    await harness.artifacts.put("default", "set/questions.jsonl", b"{}")
    record = Document(id="d", name="d", sha256="0", bytes=1, chunks=1, indexed_at=1.0, revision=1, job="j")
    await Documents(jetstream).put(collection.table, record, owner=collection.owner)
    async with harness.working({"evaluate": nothing}):
        await harness.submit(SPEC, "first")
        first = await harness.ended("first")
        await Documents(jetstream).put(
            collection.table, record.model_copy(update={"revision": 2}), owner=collection.owner
        )
        await harness.submit(SPEC, "second")
        second = await harness.ended("second")
    assert first.facts is not None
    assert second.facts is not None
    assert (first.facts.code.version, first.facts.code.revision) == (VERSION, "abc123")
    assert first.facts.data.version == "v1"
    assert collection.table not in first.model_dump_json(), "who knows a table's name could ask for it"
    digest = await harness.artifacts.digest("default", "set/questions.jsonl")
    assert first.facts.data.files == {"set/questions.jsonl": digest}
    assert first.facts.data.index == second.facts.data.index
    assert first.facts.data.documents < second.facts.data.documents


async def test_what_cannot_be_found_out_is_left_out(harness: JobHarness) -> None:
    async with harness.working({"evaluate": nothing}):
        await harness.submit(SPEC, "bare")
        job = await harness.ended("bare")
    assert job.state is JobState.SUCCEEDED
    assert job.facts is not None
    assert (job.facts.data.version, job.facts.data.files) == ("", {})


async def test_a_job_that_is_not_a_run_has_no_facts(harness: JobHarness) -> None:
    async with harness.working({"drop": nothing}):
        await harness.submit(DropSpec(collection="docs", table="docs-1"), "drops")
        assert (await harness.ended("drops")).facts is None


async def test_the_version_of_the_first_try_stays_and_files_are_those_of_the_last(harness: JobHarness) -> None:
    collections = Collections(harness.bus.jetstream)
    await collections.create("default", "docs")
    await harness.artifacts.put("default", "set/questions.jsonl", b"{}")
    seen: list[str] = []

    async def twice(context: JobContext) -> None:
        job = await harness.job_store.get("default", context.job.id)
        assert job.facts is not None
        seen.append(job.facts.data.files["set/questions.jsonl"])
        if job.attempt == 1:
            await collections.delete("default", "docs")
            await harness.artifacts.put("default", "set/questions.jsonl", b"{} ")
            raise Problem(ProblemType.STAGE_UNAVAILABLE, "later")

    async with harness.working({"evaluate": twice}):
        await harness.submit(SPEC, "again", retry=QUICK)
        job = await harness.ended("again")
    assert job.facts is not None
    assert job.facts.data.version == "v1"
    assert len(set(seen)) == 2
