"""Evaluations: every question is asked, and the report says how well it was answered."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from shared.contracts.jobs import EvaluateSpec, Job, JobState, ReindexSpec
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness

pytestmark = pytest.mark.anyio

TEXTS = {
    "lamps": "The blue lamp was built by Ottilie Brandt.",
    "ferries": "The ferry Njord leaves for Rauma at six.",
    "tides": "High water at Sundsholm is at four.",
}
QUESTIONS = [
    {"question": "built by Ottilie Brandt", "sources": ["lamps"]},
    {"question": "ferry Njord leaves for Rauma", "sources": ["ferries"]},
    {"question": "High water at Sundsholm", "sources": ["tides", "almanac"]},
    {"question": "ferry Njord leaves", "sources": ["timetable"]},
]


@pytest.fixture
async def collection_harness(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path) as collection_harness:
        await collection_harness.collections.create("default", "docs")
        await collection_harness.do(await collection_harness.upload("docs", TEXTS))
        yield collection_harness


async def evaluate(collection_harness: CollectionHarness, lines: list[Any], **options: Any) -> Job:
    data = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
    await collection_harness.job_harness.artifacts.put("default", "set/questions.jsonl", data)
    return await collection_harness.do(
        EvaluateSpec.model_validate({"collection": "docs", "input": "set/questions.jsonl", **options})
    )


async def test_the_outputs_are_flat_numbers_and_the_report_tells_each_question(
    collection_harness: CollectionHarness,
) -> None:
    job = await evaluate(collection_harness, QUESTIONS, mode="text")
    assert job.state is JobState.SUCCEEDED, job.error
    outputs = job.outputs
    assert (outputs["questions"], outputs["failed"], outputs["version"]) == (4, 0, "v1")
    assert outputs["recall_at_1"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert outputs["mrr"] == pytest.approx(3 / 4)
    assert outputs["ndcg_at_10"] == pytest.approx((1 + 1 + 1 / (1 + 0.6309297) + 0) / 4, abs=1e-5)
    assert 0 < outputs["latency_p50_ms"] <= outputs["latency_p95_ms"]
    assert job.artifacts == ("report.json", "report.svg", "report.html")
    assert (job.progress.done, job.progress.total) == (4, 4)

    report = json.loads(await collection_harness.job_harness.artifacts.get("default", f"{job.id}/report.json"))
    assert report["metrics"] == {name: value for name, value in outputs.items() if name != "version"}
    assert [one["question"] for one in report["questions"]] == [one["question"] for one in QUESTIONS]
    assert report["questions"][0]["found"][0] == "lamps"
    assert report["questions"][0]["rank"] == 1
    assert "rank" not in report["questions"][3]
    picture = ElementTree.fromstring(
        await collection_harness.job_harness.artifacts.get("default", f"{job.id}/report.svg")
    )
    words = {element.text for element in picture.iter() if element.tag.endswith("text")}
    assert {"Evaluation of docs, version v1", "recall@5", "MRR", "nDCG@10"} <= words


async def test_a_version_that_is_not_live_is_asked_with_its_own_embedding(
    collection_harness: CollectionHarness,
) -> None:
    await collection_harness.do(ReindexSpec(collection="docs", embedding_variant="wide", switch=False, version="wide"))
    job = await evaluate(collection_harness, QUESTIONS[:3], version="wide", mode="vector")
    assert job.state is JobState.SUCCEEDED, job.error
    assert (job.outputs["version"], job.outputs["failed"]) == ("wide", 0)
    assert job.outputs["mrr"] == 1.0


async def test_only_the_cuts_that_top_k_reaches_are_reported(collection_harness: CollectionHarness) -> None:
    job = await evaluate(collection_harness, QUESTIONS, top_k=3)
    assert {name for name in job.outputs if name.startswith(("recall", "ndcg"))} == {"recall_at_1", "recall_at_3"}


async def test_an_evaluation_is_compared_with_an_earlier_one(collection_harness: CollectionHarness) -> None:
    first = await evaluate(collection_harness, QUESTIONS[:3], mode="text")
    changed = [*QUESTIONS[1:3], {**QUESTIONS[0], "sources": ["lost"]}]
    job = await evaluate(collection_harness, changed, mode="text", baseline=f"{first.id}/report.json")
    assert job.state is JobState.SUCCEEDED, job.error
    artifacts = collection_harness.job_harness.artifacts
    comparison = json.loads(await artifacts.get("default", f"{job.id}/report.json"))["comparison"]
    assert comparison["questions"] == 3
    assert [one["question"] for one in comparison["worse"]] == [QUESTIONS[0]["question"]]
    assert comparison["differences"]["mrr"]["mean"] == pytest.approx(-1 / 3, abs=1e-6)
    assert b"Worse: 1 questions" in await artifacts.get("default", f"{job.id}/report.html")
    assert (job.outputs["better"], job.outputs["metric"]) == (False, "ndcg_at_10")
    assert job.outputs["difference"] == pytest.approx(comparison["differences"]["ndcg_at_10"]["mean"])
    back = await evaluate(collection_harness, QUESTIONS[:3], mode="text", baseline=f"{job.id}/report.json")
    assert back.outputs["difference"] == pytest.approx(-float(job.outputs["difference"]))


async def test_results_that_are_better_for_every_question_are_better_beyond_doubt(
    collection_harness: CollectionHarness,
) -> None:
    wrong = [{**question, "sources": ["lost"]} for question in QUESTIONS[:3]]
    before = await evaluate(collection_harness, wrong, mode="text")
    job = await evaluate(collection_harness, QUESTIONS[:3], mode="text", baseline=f"{before.id}/report.json")
    assert job.outputs["better"] is True
    assert float(job.outputs["difference_low"]) > 0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["no json"], "Line 1"),
        (["", json.dumps(QUESTIONS[0]), '{"question": "what?"}'], "Line 3"),
        (['{"sources": ["a"]}'], "question"),
        ([""], "1 to 100,000"),
    ],
)
async def test_questions_that_cannot_be_used_are_named_by_their_line(
    collection_harness: CollectionHarness, lines: list[Any], said: str
) -> None:
    job = await evaluate(collection_harness, lines)
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, "invalid-request")
    assert said in job.error.detail


async def test_what_every_question_would_meet_fails_the_job(collection_harness: CollectionHarness) -> None:
    for options, code in (
        ({"version": "v9"}, "not-found"),
        ({"collection": "nowhere"}, "collection-not-found"),
        ({"input": "set/other.jsonl"}, "not-found"),
        ({"baseline": "set/other.json"}, "not-found"),
        ({"baseline": "set/questions.jsonl"}, "invalid-request"),
    ):
        job = await evaluate(collection_harness, QUESTIONS, **options)
        assert job.error is not None
        assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, code)
