"""Tuning: trials on one half of the questions, a verdict on the other, and a version of what is better."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.embedder.model.hardware import Device, Dtype
from services.embedder.model.model import EmbeddingModel, ModelConfig
from services.embedder.stages.embed import Embedding
from services.scheduler.evaluation.questions import Question
from services.scheduler.tuning.halves import halves
from shared.contracts.collections import VersionState
from shared.contracts.envelope import Query
from shared.contracts.jobs import EvaluateSpec, JobState, SwitchSpec
from shared.contracts.retrieval import RetrievalOptions, SearchMode
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness
from tests.harness.pages import check_page
from tests.harness.stage_harness import until
from tests.harness.tuning import (
    LITERAL,
    PARAPHRASED,
    PATIENCE,
    TEXTS,
    attached,
    put,
    spec,
    trials,
    tuned,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return EmbeddingModel.load(ModelConfig(device=Device.CPU, dtype=Dtype.FLOAT32))


@asynccontextmanager
async def harness_with(
    model: EmbeddingModel, url: str, folder: Path, retrieval: RetrievalOptions
) -> AsyncIterator[CollectionHarness]:
    async with (
        Embedding(model).running() as embed,
        open_collection_harness(url, folder, embed=embed) as collection_harness,
    ):
        await collection_harness.collections.create("default", "docs", retrieval=retrieval)
        job = await collection_harness.do(await collection_harness.upload("docs", TEXTS), patience=PATIENCE)
        assert job.state is JobState.SUCCEEDED, job.error
        yield collection_harness


@pytest.fixture
async def usual(broker: NatsServer, tmp_path: Path, model: EmbeddingModel) -> AsyncIterator[CollectionHarness]:
    """A collection that is searched by the defaults."""
    async with harness_with(model, broker.url, tmp_path, RetrievalOptions()) as collection_harness:
        yield collection_harness


@pytest.fixture
async def by_words(broker: NatsServer, tmp_path: Path, model: EmbeddingModel) -> AsyncIterator[CollectionHarness]:
    """A collection that is searched by words alone."""
    options = RetrievalOptions(mode=SearchMode.TEXT, context=1)
    async with harness_with(model, broker.url, tmp_path, options) as collection_harness:
        yield collection_harness


def held_out() -> set[str]:
    return {one.question for one in halves([Question.model_validate(line) for line in PARAPHRASED]).held_out}


async def test_a_better_option_is_found_adopted_and_left_again(by_words: CollectionHarness) -> None:
    unanswerable = {"question": "What does a ticket to Mars cost?", "answerable": False}
    await put(by_words, [*PARAPHRASED, unanswerable])
    embedded = len(by_words.embedded)
    job = await tuned(by_words, adopt=True)
    assert job.state is JobState.SUCCEEDED, job.error
    outputs: dict[str, Any] = dict(job.outputs)
    assert outputs["better"] is True
    assert 0 < outputs["difference_low"] < outputs["difference"] < outputs["difference_high"]
    assert (outputs["version"], outputs["live"], outputs["previous"]) == ("v2", True, "v1")
    assert (job.progress.done, job.progress.total) == (6, 6)
    assert len(by_words.embedded) == embedded, "no document is embedded again"

    collection = await by_words.collection()
    assert collection.retrieval.mode in (SearchMode.HYBRID, SearchMode.VECTOR)
    assert collection.retrieval.context == 1
    assert collection.table == collection.version("v1").table
    await put(by_words, PARAPHRASED)
    evaluated = await by_words.do(EvaluateSpec(collection="docs", input="set/questions.jsonl"))
    assert float(str(evaluated.outputs["ndcg_at_10"])) > outputs["ndcg_default"]
    back = await by_words.do(SwitchSpec(collection="docs"))
    assert back.outputs["version"] == "v1"
    assert (await by_words.collection()).retrieval.mode is SearchMode.TEXT

    verdict = json.loads(await attached(by_words, job, "verdict.json"))
    assert verdict["better"] is True
    assert verdict["default"]["held_out"] == outputs["ndcg_default"]
    assert verdict["questions"] == {"tuned": 64 - len(held_out()), "held_out": len(held_out()), "left_out": 1}
    steps = [json.loads(line) for line in (await attached(by_words, job, "metrics.jsonl")).splitlines()]
    assert [step["ndcg_at_10"] for step in steps] == [trial["score"] for trial in await trials(by_words, job)]
    assert steps[-1]["best"] == max(step["ndcg_at_10"] for step in steps)
    page = (await attached(by_words, job, "report.html")).decode()
    assert "The best trial is better than the default" in page
    check_page(page)
    best = max(step["ndcg_at_10"] for step in steps)
    assert f"nDCG@10 of 6 trials; the best has {best:.3f}" in page
    assert "Nothing can be said of it. 6 trials are too few" in page


async def test_a_default_that_is_best_stays_and_nothing_is_written(usual: CollectionHarness) -> None:
    await put(usual, LITERAL)
    job = await tuned(usual, adopt=True)
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.outputs["better"] is False
    assert "version" not in job.outputs
    assert str(job.outputs["message"]).startswith("The default stays")
    assert job.progress.message == job.outputs["message"]
    assert [version.name for version in (await usual.collection()).versions] == ["v1"]


async def test_without_adopt_the_better_version_waits_for_a_switch(by_words: CollectionHarness) -> None:
    await put(by_words, PARAPHRASED)
    job = await tuned(by_words, version="tuned")
    assert (job.outputs["version"], job.outputs["live"]) == ("tuned", False), job.error
    collection = await by_words.collection()
    assert collection.version("tuned").state is VersionState.READY
    assert (collection.live.name, collection.retrieval.mode) == ("v1", SearchMode.TEXT)


async def test_trials_never_ask_a_held_out_question_and_embed_each_one_once(by_words: CollectionHarness) -> None:
    await put(by_words, PARAPHRASED)
    job = await tuned(by_words)
    assert job.state is JobState.SUCCEEDED, job.error
    asked = [query.question for query in by_words.searched]
    first_held_out = next(place for place, question in enumerate(asked) if question in held_out())
    during_trials, at_the_end = asked[:first_held_out], asked[first_held_out:]
    assert set(during_trials) == {str(one["question"]) for one in PARAPHRASED} - held_out()
    assert set(at_the_end) == held_out()
    assert len(at_the_end) == 2 * len(held_out())
    vectors: dict[str, set[bytes]] = {}
    for query in by_words.searched:
        vectors.setdefault(query.question, set()).update([query.embedding] if query.embedding else [])
    assert all(len(found) == 1 for found in vectors.values())


async def test_a_search_that_is_broken_off_goes_on_as_it_would_have(by_words: CollectionHarness) -> None:
    await put(by_words, PARAPHRASED)
    whole = await tuned(by_words)
    in_one_go = len(by_words.searched)
    by_words.searched.clear()
    reached = asyncio.Event()
    questions = 64 - len(held_out())

    async def in_the_fourth_trial(_: Query) -> None:
        if len(by_words.searched) > 3.5 * questions:
            reached.set()

    by_words.before_search = in_the_fourth_trial
    job_id = await by_words.submit(spec(version="again"))
    async with by_words.job_harness.working(by_words.kinds, long=frozenset({"tune"})):
        await reached.wait()
    before = await by_words.job_harness.job_store.get("default", job_id)
    assert before.state is JobState.RUNNING
    async with by_words.job_harness.working(by_words.kinds):
        job = await by_words.job_harness.ended(job_id, patience=PATIENCE)
    assert job.state is JobState.SUCCEEDED, job.error
    assert await trials(by_words, job) == await trials(by_words, whole)
    assert len(by_words.searched) < in_one_go + 2 * questions, "at most the trial that was broken off is made again"
    assert {name: value for name, value in job.outputs.items() if name != "version"} == {
        name: value for name, value in whole.outputs.items() if name != "version"
    }


async def test_a_cancelled_search_ends_and_writes_no_version(by_words: CollectionHarness) -> None:
    await put(by_words, PARAPHRASED)
    reached = asyncio.Event()

    async def in_the_second_trial(_: Query) -> None:
        if len(by_words.searched) > 64:
            reached.set()

    by_words.before_search = in_the_second_trial
    job_id = await by_words.submit(spec(trials=200, adopt=True))
    async with by_words.job_harness.working(by_words.kinds):
        await reached.wait()
        await by_words.job_harness.job_store.cancel("default", job_id)
        job = await by_words.job_harness.ended(job_id, patience=PATIENCE)
    assert job.state is JobState.CANCELLED
    assert [version.name for version in (await by_words.collection()).versions] == ["v1"]


async def test_progress_counts_trials_and_says_the_best_so_far(by_words: CollectionHarness) -> None:
    await put(by_words, PARAPHRASED)
    job_id = await by_words.submit(spec(trials=3))
    messages: set[str] = set()

    async def said() -> bool:
        job = await by_words.job_harness.job_store.get("default", job_id)
        messages.add(f"{job.progress.done}/{job.progress.total} {job.progress.message}")
        return job.state.ended

    async with by_words.job_harness.working(by_words.kinds):
        await until(said, "the end", patience=PATIENCE)
    assert any(message.startswith("1/3 trial 1: nDCG@10 ") and "best so far" in message for message in messages)


@pytest.mark.parametrize(
    ("lines", "members", "code", "said"),
    [
        (PARAPHRASED[:30], {}, "invalid-request", "The set is too small to tune on"),
        (
            [{**one, "sources": [f"x/{one['sources'][0]}"]} for one in LITERAL],
            {},
            "invalid-request",
            "finds any of its",
        ),
        (LITERAL, {"version": "v1"}, "conflict", "a version 'v1' already"),
        (LITERAL, {"collection": "nowhere"}, "collection-not-found", "nowhere"),
        (LITERAL, {"chunks": [{"tokens": 64, "overlap": 64}]}, "invalid-request", "do not go together"),
    ],
)
async def test_what_cannot_be_tuned_says_why(
    usual: CollectionHarness, lines: list[dict[str, Any]], members: dict[str, Any], code: str, said: str
) -> None:
    await put(usual, lines)
    job = await tuned(usual, **members)
    assert job.error is not None
    assert (job.state, job.error.type.rpartition(":")[2]) == (JobState.FAILED, code)
    assert said in job.error.detail
