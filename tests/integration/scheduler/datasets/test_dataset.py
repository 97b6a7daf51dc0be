"""Data sets: of real feedback and sets of questions, from a real index, with nothing of the test data in the others."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.embedder.model.hardware import Device, Dtype
from services.embedder.model.model import EmbeddingModel, ModelConfig
from services.embedder.stages.embed import Embedding
from services.gateway.feedback.store import FeedbackStore
from shared.contracts.envelope import Query
from shared.contracts.jobs import DatasetSpec, EvaluateSpec, Job, JobState
from shared.contracts.keys import EVERY_COLLECTION
from shared.contracts.principals import ALL
from shared.runtime.stage import Process
from sluice.api.feedback import Feedback
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness
from tests.harness.tuning import LITERAL, PATIENCE, TEXTS, attached, put

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

ANYBODY: dict[str, Any] = {"collections": EVERY_COLLECTION, "principals": (ALL,)}
"""Who sees everything, and so everybody's feedback."""

DOCUMENTS = list(TEXTS)


@asynccontextmanager
async def harness_on(url: str, folder: Path, embed: Process | None = None) -> AsyncIterator[CollectionHarness]:
    """64 documents of a sentence each."""
    async with open_collection_harness(url, folder, embed=embed) as collection_harness:
        await collection_harness.collections.create("default", "docs")
        job = await collection_harness.do(await collection_harness.upload("docs", TEXTS), patience=PATIENCE)
        assert job.state is JobState.SUCCEEDED, job.error
        yield collection_harness


@pytest.fixture
async def harness(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    """With an embedder that counts words."""
    async with harness_on(broker.url, tmp_path) as collection_harness:
        yield collection_harness


@pytest.fixture
async def with_model(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    """With the bundled embedding model."""
    model = EmbeddingModel.load(ModelConfig(device=Device.CPU, dtype=Dtype.FLOAT32))
    async with Embedding(model).running() as embed, harness_on(broker.url, tmp_path, embed) as collection_harness:
        yield collection_harness


async def give(harness: CollectionHarness, number: int, question: str, documents: Sequence[str], **said: Any) -> None:
    """Feedback on an answer from these documents, which cites the first, as the gateway keeps it."""
    answer = f"{number:016x}"
    kept = {
        "id": answer,
        "question": question,
        "answer": f"By the {documents[0]} [1].",
        "collection": "docs",
        "cited": [1],
        "reader": "ann",
        "sources": [
            {"index": n, "document": name, "document_id": name, "text": TEXTS.get(name, "It is gone.")}
            for n, name in enumerate(documents, 1)
        ],
    }
    record = Feedback.model_validate(
        {"answer": answer, "reader": "ann", "kept": kept, "changed_at": time.time() - 1, **said}
    )
    await FeedbackStore(harness.job_harness.bus.jetstream).change("default", answer, "ann", lambda _: record)


async def made(harness: CollectionHarness, **members: Any) -> Job:
    options = {**ANYBODY, **members.pop("options", {})}
    spec = DatasetSpec.model_validate({"collection": "docs", **members})
    return await harness.do(spec, patience=PATIENCE, **options)


async def rows(harness: CollectionHarness, job: Job, file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(await attached(harness, job, file))).to_pylist()
    return found


async def manifest(harness: CollectionHarness, job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await attached(harness, job, "dataset.json"))
    return found


async def test_questions_and_feedback_become_two_sides_without_a_document_in_common(
    with_model: CollectionHarness,
) -> None:
    await put(with_model, LITERAL[:50])
    for number, name in enumerate(DOCUMENTS[50:]):
        await give(with_model, number, f"Who was there, {name}?", [name, DOCUMENTS[number]], rating="up")
    job = await made(with_model, questions=["set/questions.jsonl"])
    assert job.state is JobState.SUCCEEDED, job.error
    train, test = [await rows(with_model, job, f"{side}.parquet") for side in ("train", "test")]
    assert (len(train) + len(test), job.outputs["feedback"]) == (64, 14)
    assert (len(train), len(test)) == (job.outputs["train"], job.outputs["test"])
    documents = [{name for row in side for name in row["documents"]} for side in (train, test)]
    assert not documents[0] & documents[1]
    assert documents[0] | documents[1] == set(DOCUMENTS)
    named = {text: name for name, text in TEXTS.items()}
    for row in [*train, *test]:
        assert [named[row["positive"]]] == row["documents"]
        assert len(row["negatives"]) == len(set(row["negatives"])) <= 4
        assert row["positive"] not in row["negatives"]
    shown = {named[text] for row in train for text in row["negatives"]}
    assert shown
    assert not shown & documents[1], "no passage of the test data is a negative of the training data"
    assert {row["origin"] for row in train} == {"questions", "feedback"}
    # The nearest sentences have the noun or the place in common.
    near = [set(text.split()) & set(row["positive"].split()) for row in train for text in row["negatives"]]
    assert sum(len(words) for words in near) / len(near) > 8.9

    said = await manifest(with_model, job)
    assert said["hash"] == job.outputs["hash"]
    assert said["train"]["origins"].keys() == {"questions", "feedback"}
    assert said["sources"][0]["questions"] == 50
    page = (await attached(with_model, job, "report.html")).decode()
    assert "Data set of docs, version v1" in page
    evaluated = await with_model.do(EvaluateSpec(collection="docs", input=f"{job.id}/questions.jsonl"), **ANYBODY)
    assert evaluated.outputs["questions"] == job.outputs["test"]
    assert float(str(evaluated.outputs["recall_at_1"])) > 0.9
    refused = await with_model.do(EvaluateSpec(collection="docs", input=f"{job.id}/questions.jsonl"))
    assert refused.error is not None, "who does not see everybody's feedback has no file of such a job"
    assert refused.error.type.endswith(":not-found")
    left = [name async for name in with_model.job_harness.artifacts.names("default", job.id)]
    assert not [name for name in left if name.startswith("part-")]


async def test_the_same_inputs_have_the_same_hash_and_others_another(harness: CollectionHarness) -> None:
    await put(harness, LITERAL)
    first = await made(harness, questions=["set/questions.jsonl"], feedback=False)
    await put(harness, LITERAL[::-1])
    again = await made(harness, questions=["set/questions.jsonl"], feedback=False)
    other = await made(harness, questions=["set/questions.jsonl"], feedback=False, seed=1)
    assert first.outputs["hash"] == again.outputs["hash"] != other.outputs["hash"]
    assert await attached(harness, first, "train.parquet") == await attached(harness, again, "train.parquet")


async def test_what_readers_found_wrong_is_a_negative_and_corrections_are_preferences(
    harness: CollectionHarness,
) -> None:
    await put(harness, LITERAL)
    far = DOCUMENTS[-1]
    for number, name in enumerate(DOCUMENTS[:20]):
        question, sources = str(LITERAL[number]["question"]), [name, far, "gone.md"]
        judged = [{"index": 1, "relevant": True}, {"index": 2, "relevant": False}]
        await give(harness, number, question, sources, sources=judged, correction=f"Yes, {name}.", rating="down")
    job = await made(harness, questions=["set/questions.jsonl"], negatives=2)
    assert job.state is JobState.SUCCEEDED, job.error
    train, test = [await rows(harness, job, f"{side}.parquet") for side in ("train", "test")]
    on_test = {name for row in test for name in row["documents"]}
    judged_rows = [row for row in [*train, *test] if row["documents"][0] in DOCUMENTS[:20]]
    firsts = {row["negatives"][0] for row in (judged_rows if far not in on_test else test) if row in judged_rows}
    assert firsts <= {TEXTS[far]}
    preferences = [await rows(harness, job, f"{name}.parquet") for name in ("preferences", "test_preferences")]
    wanted = [[name for name in DOCUMENTS[:20] if (name in on_test) == is_test] for is_test in (False, True)]
    for side, names in zip(preferences, wanted, strict=True):
        assert [one["documents"] for one in side] == [[name] for name in sorted(names, key=_question_of)]
        assert {one["context"] for one in side} == {TEXTS[name] for name in names}
        assert all(one["chosen"].startswith("Yes, ") and one["rejected"].startswith("By the ") for one in side)
        assert all((one["passages"], one["cited"]) == ([one["context"]], [1]) for one in side)
    assert job.outputs["preferences"] == 20
    lines = [json.loads(line) for line in (await attached(harness, job, "questions.jsonl")).splitlines()]
    answers = {line["sources"][0]: line.get("answer") for line in lines}
    assert all(answers[name] == f"Yes, {name}." for name in DOCUMENTS[:20] if name in on_test)


async def test_answers_come_with_the_passages_that_a_prompt_shows_and_none_of_the_other_side(
    harness: CollectionHarness,
) -> None:
    await put(harness, [{**one, "answer": f"It was {one['sources'][0]}."} for one in LITERAL[:40]] + LITERAL[40:])
    job = await made(harness, questions=["set/questions.jsonl"], feedback=False)
    assert job.state is JobState.SUCCEEDED, job.error
    train, test = [await rows(harness, job, f"{name}.parquet") for name in ("answers", "test_answers")]
    assert len(train) + len(test) == job.outputs["answers"] == 40
    on_test = {name for row in await rows(harness, job, "test.parquet") for name in row["documents"]}
    for row in [*train, *test]:
        (name,) = row["documents"]
        assert row["answer"] == f"It was {name}."
        assert row["passages"] == [TEXTS[source] for source in row["sources"]]
        assert [row["sources"][number - 1] for number in row["cited"]] == [name]
        assert len(row["passages"]) == 5
    assert {name for row in test for name in row["documents"]} <= on_test
    assert not {name for row in train for name in row["sources"]} & on_test


def _question_of(document: str) -> str:
    return next(str(one["question"]).casefold() for one in LITERAL if one["sources"] == [document])


async def test_a_passage_that_both_sides_have_in_different_documents_is_in_the_test_data_alone(
    harness: CollectionHarness,
) -> None:
    copies = {f"copy-of-{name}": text for name, text in list(TEXTS.items())[:20]}
    job = await harness.do(await harness.upload("docs", copies), patience=PATIENCE)
    assert job.state is JobState.SUCCEEDED, job.error
    other = [{"question": f"Copied? {one['question']}", "sources": [f"copy-of-{one['sources'][0]}"]} for one in LITERAL]
    await put(harness, [*LITERAL, *other[:20]])
    job = await made(harness, questions=["set/questions.jsonl"], feedback=False)
    train, test = [await rows(harness, job, f"{side}.parquet") for side in ("train", "test")]
    shown = {text for row in train for text in (row["positive"], *row["negatives"])}
    assert not shown & {row["positive"] for row in test}
    reasons = (await manifest(harness, job))["left_out"]
    assert reasons == {"a document of the test data has its passage too": 84 - len(train) - len(test)}
    assert reasons


async def test_passages_that_the_submitter_may_not_see_are_in_no_file(harness: CollectionHarness) -> None:
    secret = {f"secret-{n}": f"A hound was seen by the vault, and the code was {n}." for n in range(8)}
    job = await harness.do(await harness.upload("docs", secret, allowed=("group:hr",)), patience=PATIENCE)
    assert job.state is JobState.SUCCEEDED, job.error
    asked = [{"question": f"Was a hound seen by vault {n}?", "sources": [f"secret-{n}"]} for n in range(8)]
    await put(harness, [*LITERAL, *asked])
    members: dict[str, Any] = {"questions": ["set/questions.jsonl"], "feedback": False, "negatives": 16}
    seen = await made(harness, **members, options={"principals": ("group:hr",)})
    hidden = await made(harness, **members, options={"principals": ()})
    for job, count in ((seen, 72), (hidden, 64)):
        assert job.outputs["questions"] == count, job.error
        files = [await rows(harness, job, f"{side}.parquet") for side in ("train", "test")]
        assert any("vault" in json.dumps(rows) for rows in files) == (job is seen)
    assert (await manifest(harness, hidden))["left_out"] == {"its documents are not in the collection": 8}


@pytest.mark.parametrize("options", [{"principals": ("group:hr",)}, {"collections": ("docs",)}, {"principals": None}])
async def test_feedback_is_for_submitters_who_see_everybodys(
    harness: CollectionHarness, options: dict[str, Any]
) -> None:
    await put(harness, LITERAL)
    job = await made(harness, questions=["set/questions.jsonl"], options=options)
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, "forbidden")
    assert "--no-feedback" in job.error.detail


async def test_a_job_that_is_broken_off_goes_on_with_the_parts_that_are_left(
    harness: CollectionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.datasets.state.PART", 10)
    monkeypatch.setattr("services.scheduler.datasets.dataset.PART", 10)
    await put(harness, LITERAL)
    members: dict[str, Any] = {"questions": ["set/questions.jsonl"], "feedback": False}
    whole = await made(harness, **members)
    in_one_go = len(harness.searched)
    harness.searched.clear()
    reached = asyncio.Event()

    async def in_the_fourth_part(_: Query) -> None:
        if len(harness.searched) > 35:
            reached.set()

    harness.before_search = in_the_fourth_part
    job_id = await harness.submit(DatasetSpec.model_validate({"collection": "docs", **members}), **ANYBODY)
    async with harness.job_harness.working(harness.kinds, long=frozenset({"dataset"})):
        await reached.wait()
    assert (await harness.job_harness.job_store.get("default", job_id)).state is JobState.RUNNING
    async with harness.job_harness.working(harness.kinds):
        job = await harness.job_harness.ended(job_id, patience=PATIENCE)
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.outputs == whole.outputs
    assert len(harness.searched) <= in_one_go + 20, "at most the part that was broken off is mined again"
    assert (job.progress.done, job.progress.total) == (64, 64)


async def test_a_cancelled_job_ends(harness: CollectionHarness) -> None:
    await put(harness, LITERAL)
    reached = asyncio.Event()

    async def soon(_: Query) -> None:
        if len(harness.searched) > 5:
            reached.set()

    harness.before_search = soon
    spec = DatasetSpec.model_validate({"collection": "docs", "questions": ["set/questions.jsonl"], "concurrency": 1})
    job_id = await harness.submit(spec, **ANYBODY)
    async with harness.job_harness.working(harness.kinds):
        await reached.wait()
        await harness.job_harness.job_store.cancel("default", job_id)
        job = await harness.job_harness.ended(job_id, patience=PATIENCE)
    assert job.state is JobState.CANCELLED
    assert [name async for name in harness.job_harness.artifacts.names("default", job_id)] == []


@pytest.mark.parametrize(
    ("lines", "members", "code", "said"),
    [
        (
            LITERAL[:20],
            {},
            "invalid-request",
            "20 questions (20 from sets) about 20 separate documents, and it takes 30",
        ),
        (
            [{**one, "sources": [f"x/{one['sources'][0]}"]} for one in LITERAL],
            {},
            "invalid-request",
            "64 questions: its documents are not in the collection",
        ),
        (LITERAL, {"limit": 10}, "invalid-request", "54 questions: there are more questions than 'limit'"),
        (LITERAL, {"version": "v9"}, "not-found", "no version 'v9'"),
        (LITERAL, {"collection": "nowhere"}, "collection-not-found", "nowhere"),
        (LITERAL, {"questions": ["set/none.jsonl"]}, "not-found", "set/none.jsonl"),
    ],
)
async def test_what_cannot_be_made_says_why(
    harness: CollectionHarness, lines: list[dict[str, Any]], members: dict[str, Any], code: str, said: str
) -> None:
    await put(harness, lines)
    job = await made(harness, **{"questions": ["set/questions.jsonl"], **members})
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, code)
    assert said in job.error.detail
