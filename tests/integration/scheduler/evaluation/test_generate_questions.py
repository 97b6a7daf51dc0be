"""A set of questions that a model writes: about whose passages, what is left out, and what a crash costs.

A model's words are in tests/e2e/test_packaged_model.py. Here the gateway's place is taken by a stage that answers as
each test needs it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.documents import document_id
from shared.contracts.envelope import Lane, Query
from shared.contracts.jobs import EvaluateSpec, GenerateQuestionsSpec, Job, JobState, PermitSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.requests import REQUEST, Request
from shared.contracts.results import Response, Results
from shared.runtime.stage import Context
from shared.stores.payloads import PayloadStore
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness
from tests.harness.stage_harness import StageHarness, open_stage_harness, until

pytestmark = pytest.mark.anyio

TEXTS = {
    f"{name}.md": f"The {name} lamp was built by {who} in {year}. " + f"It stands at the {name} pier of Sundsholm. " * 4
    for name, who, year in (("blue", "Ottilie Brandt", 1911), ("red", "Jon Dahl", 1920), ("green", "Eva Lind", 1934))
}


class Writer:
    """Answers chats: asks for the year of the lamp that it is shown, or what `says` makes of the passage."""

    def __init__(self, harness: StageHarness, loads: PayloadStore) -> None:
        self.harness = harness
        self.loads = loads
        self.bodies: list[dict[str, Any]] = []
        self.says: Any = lambda passage: f"When was the {passage.split()[1]} lamp built?"
        self.problem: Problem | None = None

    async def __call__(self, query: Query, _: Context) -> Query:
        body = json.loads(await self.loads.read(query.tenant, Request.of(query).body))
        self.bodies.append(body)
        *_, asked = body["messages"]
        passage = asked["content"].split("\n")[1]
        if self.problem is not None:
            status, said = self.problem.kind.status, {"error": {"sluice": self.problem.details.model_dump()}}
        else:
            text = await asyncio.to_thread(self.says, passage)
            status, said = 200, {"choices": [{"message": {"content": text}}]}
        load = await self.loads.pack(query.tenant, f"reply-{len(self.bodies)}/body", json.dumps(said).encode())
        response = Response(status=status, request_id="t", body=load)
        return query.model_copy(update={"results": Results(response=response)})


@pytest.fixture
async def collection_harness(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path) as collection_harness:
        await collection_harness.collections.create("default", "docs")
        await collection_harness.do(await collection_harness.upload("docs", TEXTS))
        yield collection_harness


@pytest.fixture
async def writer(broker: NatsServer, collection_harness: CollectionHarness) -> AsyncIterator[Writer]:
    async with open_stage_harness(broker.url) as harness:
        writer = Writer(harness, PayloadStore(collection_harness.job_harness.artifacts))
        async with harness.working(writer, REQUEST, lanes=(Lane.BATCH,), batch_room=4):
            yield writer


def spec(**members: Any) -> GenerateQuestionsSpec:
    return GenerateQuestionsSpec.model_validate({"model": "m", "collection": "docs", "count": 3} | members)


async def lines_of(collection_harness: CollectionHarness, job: Job) -> list[dict[str, Any]]:
    data = await collection_harness.job_harness.artifacts.get("default", f"{job.id}/questions.jsonl")
    return [json.loads(line) for line in data.splitlines()]


async def test_a_question_about_each_document_is_written_and_can_be_evaluated(
    collection_harness: CollectionHarness, writer: Writer
) -> None:
    job = await collection_harness.do(spec())
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.outputs == {"questions": 3, "left_out": 1, "documents": 3, "version": "v1"}  # four at a time
    assert (job.progress.done, job.progress.total, job.artifacts) == (3, 3, ("questions.jsonl",))
    lines = await lines_of(collection_harness, job)
    for line in lines:
        (name,) = line["sources"]
        assert line["question"] == f"When was the {name.removesuffix('.md')} lamp built?"
        assert (line["synthetic"], line["passage"] in TEXTS[name]) == (True, True)
    assert {body["model"] for body in writer.bodies} == {"m"}
    evaluated = await collection_harness.do(
        EvaluateSpec(collection="docs", input=f"{job.id}/questions.jsonl", mode="text")
    )
    assert (evaluated.outputs["questions"], evaluated.outputs["recall_at_1"]) == (3, 1.0)
    page = await collection_harness.job_harness.artifacts.get("default", f"{evaluated.id}/report.html")
    assert b"all of them written by a model" in page


async def test_the_same_seed_draws_the_same_passages(collection_harness: CollectionHarness, writer: Writer) -> None:
    sets = [await lines_of(collection_harness, await collection_harness.do(spec(seed=7))) for _ in range(2)]
    assert sets[0] == sets[1]


async def test_what_is_no_question_is_left_out_and_another_passage_is_drawn(
    collection_harness: CollectionHarness, writer: Writer
) -> None:
    writer.says = lambda passage: "I cannot." if "red" in passage else f"Who built the {passage.split()[1]} lamp?"
    job = await collection_harness.do(spec(count=2, concurrency=1))
    assert job.outputs["questions"] == 2
    assert "red.md" not in {line["sources"][0] for line in await lines_of(collection_harness, job)}


async def test_a_small_collection_gives_what_it_can_and_none_twice(
    collection_harness: CollectionHarness, writer: Writer
) -> None:
    job = await collection_harness.do(spec(count=5))
    assert (job.state, job.outputs["questions"], job.outputs["left_out"]) == (JobState.SUCCEEDED, 3, 17)
    assert {body["temperature"] for body in writer.bodies} == {0, 0.8}


async def test_a_model_that_asks_nothing_fails_the_job(collection_harness: CollectionHarness, writer: Writer) -> None:
    writer.says = lambda _: "Lamps."
    job = await collection_harness.do(spec())
    assert job.error is not None
    assert job.state is JobState.FAILED
    assert "wrote no question" in job.error.detail


async def test_an_unknown_model_is_said_at_once(collection_harness: CollectionHarness, writer: Writer) -> None:
    writer.problem = Problem(ProblemType.MODEL_NOT_FOUND, "There is no model 'm'.")
    job = await collection_harness.do(spec())
    assert job.error is not None
    assert (job.state, job.error.detail) == (JobState.FAILED, "There is no model 'm'.")
    assert job.attempt == 1


async def test_an_empty_collection_is_said_at_once(collection_harness: CollectionHarness, writer: Writer) -> None:
    await collection_harness.collections.create("default", "empty")
    job = await collection_harness.do(spec(collection="empty"))
    assert job.error is not None
    assert job.error.type == ProblemType.COLLECTION_EMPTY.uri


async def test_the_next_worker_goes_on_with_what_is_written(
    collection_harness: CollectionHarness, writer: Writer
) -> None:
    import threading

    second, go = threading.Event(), threading.Event()

    def says(passage: str) -> str:
        if len(writer.bodies) == 2:
            second.set()
            go.wait(60)
        return f"When was the {passage.split()[1]} lamp built?"

    writer.says = says
    job = await collection_harness.submit(spec(concurrency=1))
    async with collection_harness.job_harness.working(collection_harness.kinds) as queue:

        async def waits() -> bool:
            return second.is_set()

        await until(waits, "the second passage in work")
        held = dict(queue._held.by_task)
        for delivery in held.values():
            delivery.settled = True  # as if the process had died: the broker hears nothing any more
        await queue._held.cancel(held)
    go.set()
    async with collection_harness.job_harness.working(collection_harness.kinds):
        ended = await collection_harness.job_harness.ended(job)
    assert (ended.state, ended.outputs["questions"], ended.crashes) == (JobState.SUCCEEDED, 3, 1)
    assert len(writer.bodies) == 4  # the one that was broken off is written again, the one before is not


async def test_the_model_is_shown_what_the_submitter_may_see(
    collection_harness: CollectionHarness, writer: Writer
) -> None:
    ids = tuple(document_id(name) for name in ("blue.md", "red.md"))
    await collection_harness.do(PermitSpec(collection="docs", documents=ids[:1], allowed=("group:hr",)))
    await collection_harness.do(PermitSpec(collection="docs", documents=ids[1:], allowed=()))
    for principals, lamps in (((), {"green"}), (("group:hr",), {"blue", "green"}), (("*",), {"blue", "red", "green"})):
        writer.bodies.clear()
        job = await collection_harness.do(spec(), principals=principals)
        assert job.state is JobState.SUCCEEDED, job.error
        assert {body["messages"][-1]["content"].split()[2] for body in writer.bodies} == lamps
