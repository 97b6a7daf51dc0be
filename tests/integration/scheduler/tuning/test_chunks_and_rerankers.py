"""Tuning of what costs more than a search: other chunks, and a reranker."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.collections import VersionState
from shared.contracts.envelope import Query
from shared.contracts.jobs import EvaluateSpec, JobState
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness, vector_of
from tests.harness.stage_harness import open_stage_harness
from tests.harness.tuning import (
    NOUNS,
    PATIENCE,
    PLACES,
    TEXTS,
    attached,
    put,
    spec,
    trials,
    tuned,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]


async def spelled(query: Query, _: Context) -> Query:
    """Vectors count words, those of a question from back to front: so only vectors find what it asks for."""
    if query.question:
        return query.with_embedding(vector_of(_backwards(query.question), 256))
    return query.with_passages(p.model_copy(update={"vector": vector_of(p.text, 256)}) for p in query.passages)


def _backwards(text: str) -> str:
    return " ".join(word[::-1] for word in text.split())


@pytest.fixture
async def spelling(broker: NatsServer, tmp_path: Path) -> AsyncIterator[CollectionHarness]:
    async with open_collection_harness(broker.url, tmp_path, embed=spelled) as collection_harness:
        await collection_harness.collections.create("default", "docs")
        yield collection_harness


BACKWARDS = [{"question": _backwards(text), "sources": [name]} for name, text in TEXTS.items()]


async def test_other_chunks_go_again_unless_they_are_better(spelling: CollectionHarness) -> None:
    await spelling.do(await spelling.upload("docs", TEXTS), patience=PATIENCE)
    await put(spelling, BACKWARDS)
    chunks = [{"tokens": 48, "overlap": 0}, {"tokens": 256, "overlap": 32}]
    job = await tuned(spelling, chunks=chunks)
    assert (job.state, job.outputs.get("better")) == (JobState.SUCCEEDED, False), job.error
    tried = [one["setting"].get("chunks") for one in await trials(spelling, job)]
    assert None in tried
    assert {"tokens": 48, "overlap": 0} in tried
    assert {"tokens": 256, "overlap": 32} not in tried, "the usual chunks are no other ones"
    versions = (await spelling.collection()).versions
    assert {version.state for version in versions if version.name != "v1"} <= {VersionState.LEAVING}


async def test_better_chunks_become_a_version(spelling: CollectionHarness) -> None:
    """In one chunk with what is elsewhere, nobody can tell what was seen where."""
    chance = random.Random(0)

    def elsewhere() -> str:
        return f"No {' or '.join(chance.choices(list(NOUNS), k=4))} with {' or '.join(chance.choices(PLACES, k=4))}. "

    texts = {name: "".join(elsewhere() for _ in range(5)) + text + elsewhere() for name, text in TEXTS.items()}
    await spelling.do(await spelling.upload("docs", texts), patience=PATIENCE)
    await put(spelling, BACKWARDS)
    job = await tuned(spelling, chunks=[{"tokens": 32, "overlap": 0}], adopt=True)
    assert job.state is JobState.SUCCEEDED, job.error
    verdict = json.loads(await attached(spelling, job, "verdict.json"))
    assert verdict["best"]["setting"]["chunks"] == {"tokens": 32, "overlap": 0}
    collection = await spelling.collection()
    assert (job.outputs["better"], job.outputs["version"], collection.live.name) == (True, "v2", "v2")
    assert collection.live.chunk_tokens == 32
    assert collection.table != collection.version("v1").table
    assert job.outputs["chunks"] == collection.live.chunks > len(texts)


async def knowing(query: Query, context: Context) -> Query:
    """A reranker that reads words from back to front."""
    ordered = sorted(query.passages, key=lambda passage: passage.text != _backwards(query.question))
    return query.with_passages(ordered[: context.params.get("top_k")])


async def test_a_reranker_that_answers_is_tried_and_goes_with_the_version(broker: NatsServer, tmp_path: Path) -> None:
    async with (
        open_collection_harness(broker.url, tmp_path) as collection_harness,
        open_stage_harness(broker.url) as stages,
        stages.working(knowing, "rerank"),
    ):
        await collection_harness.collections.create("default", "docs")
        await collection_harness.do(await collection_harness.upload("docs", TEXTS), patience=PATIENCE)
        await put(collection_harness, BACKWARDS)
        job = await tuned(collection_harness, rerank=True, adopt=True)
        assert job.outputs["better"] is True, job.error
        live = (await collection_harness.collection()).live
        assert (live.name, live.rerank_candidates) == ("v2", 80)
        evaluated = await collection_harness.do(EvaluateSpec(collection="docs", input="set/questions.jsonl"))
        assert evaluated.outputs["ndcg_at_10"] == job.outputs["ndcg_best"] == 1.0


async def test_without_a_reranker_no_trial_reranks(spelling: CollectionHarness) -> None:
    await spelling.do(await spelling.upload("docs", TEXTS), patience=PATIENCE)
    await put(spelling, BACKWARDS)
    job = await tuned(spelling, rerank=True)
    assert job.state is JobState.SUCCEEDED, job.error
    assert {one["setting"]["rerank_candidates"] for one in await trials(spelling, job)} == {0}


async def test_a_cancelled_search_gives_up_the_versions_that_it_has_built(spelling: CollectionHarness) -> None:
    await spelling.do(await spelling.upload("docs", TEXTS), patience=PATIENCE)
    await put(spelling, BACKWARDS)
    live = (await spelling.collection()).table
    reached = asyncio.Event()

    async def in_other_chunks(query: Query) -> None:
        if query.collection != live:
            reached.set()

    spelling.before_search = in_other_chunks
    job_id = await spelling.submit(spec(chunks=[{"tokens": 48, "overlap": 0}], trials=200))
    async with spelling.job_harness.working(spelling.kinds):
        await reached.wait()
        await spelling.job_harness.job_store.cancel("default", job_id)
        job = await spelling.job_harness.ended(job_id, patience=PATIENCE)
    assert job.state is JobState.CANCELLED
    versions = (await spelling.collection()).versions
    assert {version.state for version in versions if version.name != "v1"} <= {VersionState.LEAVING}
