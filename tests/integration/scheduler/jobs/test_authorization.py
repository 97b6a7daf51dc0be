"""What a job may name is what its submitter may: the collections of the key, and files of jobs that are there for it.

A pipeline finds names out as it runs, and a file's id says nothing of the job that has made it, so the worker asks."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.scheduler.jobs.authorization import JobAuthorizer
from shared.contracts.jobs import Job, JobOptions, decode_spec
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections
from shared.stores.files import FileRecord, Files
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness

pytestmark = pytest.mark.anyio

OUTPUT = "boss-job/output.jsonl"
TRAINING = {"target": "embedder", "dataset": OUTPUT.partition("/")[0]}


@pytest.fixture
async def harness(broker: NatsServer) -> AsyncIterator[JobHarness]:
    """Collections "open" and "secret", and a batch about "secret" of someone who sees every document."""
    async with open_job_harness(broker.url) as harness:
        collections = Collections(harness.bus.jetstream)
        await collections.create("default", "open")
        await collections.create("default", "secret")
        record = await collections.get("default", "secret")
        await collections.update(record, lambda record: record.model_copy(update={"restricted": True}))
        spec = decode_spec({"kind": "reindex", "collection": "secret"})
        await harness.submit(spec, "boss-job", principals=["*"])
        await harness.submit(decode_spec({"kind": "reindex", "collection": "open"}), "open-job", principals=["*"])
        files = Files(harness.bus.jetstream)
        for file, artifact in (
            ("file-made", OUTPUT),
            ("file-sent", "file-sent/in.jsonl"),
            ("file-o", "open-job/o.jsonl"),
        ):
            await files.put(
                FileRecord(
                    id=file,
                    tenant="default",
                    filename="f.jsonl",
                    purpose="batch",
                    bytes=1,
                    artifact=artifact,
                    created_at=time.time(),
                )
            )
        yield harness


async def check(harness: JobHarness, spec: dict[str, Any], **options: Any) -> None:
    job = Job(id="j", kind=spec["kind"], created_at=0, options=JobOptions.model_validate(options))
    await JobAuthorizer(harness.bus.jetstream, harness.job_store).check(job, decode_spec(spec))


async def refusal(harness: JobHarness, spec: dict[str, Any], **options: Any) -> ProblemType:
    with pytest.raises(Problem) as caught:
        await check(harness, spec, **options)
    return caught.value.kind


@pytest.mark.parametrize("patterns", [("docs",), ("*",), ("wiki", "doc?")])
async def test_a_job_runs_where_its_collection_is_one_of_the_keys(
    harness: JobHarness, patterns: tuple[str, ...]
) -> None:
    await check(harness, {"kind": "reindex", "collection": "docs"}, collections=patterns)
    await check(harness, {"kind": "command", "args": ["true"]}, collections=patterns)


async def test_a_job_fails_where_it_is_not(harness: JobHarness) -> None:
    refused = await refusal(harness, {"kind": "reindex", "collection": "wiki"}, collections=("docs",))
    assert refused is ProblemType.FORBIDDEN


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "batch", "input": "file-made"},
        {"kind": "batch", "input": OUTPUT},
        {"kind": "evaluate", "collection": "open", "input": "questions/q.jsonl", "baseline": OUTPUT},
        {"kind": "tune", "collection": "open", "input": OUTPUT},
        {"kind": "train", **TRAINING},
        {"kind": "sweep", "train": TRAINING, "space": {"batch": [16]}},
        {"kind": "pipeline", "name": "again", "steps": {"first": {"job": {"kind": "batch", "input": "file-made"}}}},
    ],
    ids=["file", "artifact", "baseline", "tune", "train", "sweep", "step"],
)
async def test_what_another_job_has_made_is_for_who_sees_as_much(harness: JobHarness, spec: dict[str, Any]) -> None:
    for principals in (["user:alice"], [], None):
        assert await refusal(harness, spec, principals=principals) is ProblemType.NOT_FOUND
    await check(harness, spec, principals=["*"])


async def test_what_another_job_has_made_is_for_keys_of_its_collection(harness: JobHarness) -> None:
    spec = {"kind": "batch", "input": "file-made"}
    assert await refusal(harness, spec, principals=["*"], collections=("open",)) is ProblemType.NOT_FOUND
    await check(harness, spec, principals=["*"], collections=("sec*",))


@pytest.mark.parametrize(
    "name", ["file-sent", "file-sent/in.jsonl", "file-o", "open-job/o.jsonl", "file-gone", "old/q.jsonl"]
)
async def test_uploads_and_what_is_about_open_collections_are_for_everybody(harness: JobHarness, name: str) -> None:
    await check(harness, {"kind": "batch", "input": name}, principals=["user:alice"], collections=("open",))
