"""Documents and questions to tune on, and the jobs that do."""

import json
from typing import Any, Final

from shared.contracts.jobs import Job, TuneSpec
from tests.harness.collection_harness import CollectionHarness

__all__ = [
    "LITERAL",
    "NOUNS",
    "PARAPHRASED",
    "PATIENCE",
    "PLACES",
    "TEXTS",
    "attached",
    "put",
    "spec",
    "trials",
    "tuned",
]

PATIENCE: Final = 180.0

NOUNS = {
    "hound": "dog",
    "kitten": "cat",
    "mare": "horse",
    "cockerel": "chicken",
    "infant": "baby",
    "physician": "doctor",
    "automobile": "car",
    "vessel": "ship",
}
PLACES = ("fireplace", "orchard", "harbour", "library", "bakery", "staircase", "meadow", "chapel")
TEXTS = {
    f"{noun}-{place}": f"A {noun} was seen by the {place} on the first evening." for noun in NOUNS for place in PLACES
}
PARAPHRASED = [
    {"question": f"Which story has a {synonym} by the {place}?", "sources": [f"{noun}-{place}"]}
    for noun, synonym in NOUNS.items()
    for place in PLACES
]
"""What each asks for is in other words in its document; by words alone eight documents are alike."""

LITERAL = [
    {"question": f"Was a {noun} seen by the {place}?", "sources": [f"{noun}-{place}"]}
    for noun in NOUNS
    for place in PLACES
]


async def put(collection_harness: CollectionHarness, lines: list[dict[str, Any]]) -> None:
    data = "\n".join(map(json.dumps, lines)).encode()
    await collection_harness.job_harness.artifacts.put("default", "set/questions.jsonl", data)


def spec(**members: Any) -> TuneSpec:
    usual = {"collection": "docs", "input": "set/questions.jsonl", "trials": 6, "seed": 3, "rerank": False}
    return TuneSpec.model_validate({**usual, **members})


async def tuned(collection_harness: CollectionHarness, **members: Any) -> Job:
    return await collection_harness.do(spec(**members), patience=PATIENCE)


async def attached(collection_harness: CollectionHarness, job: Job, file: str) -> bytes:
    return await collection_harness.job_harness.artifacts.get("default", f"{job.id}/{file}")


async def trials(collection_harness: CollectionHarness, job: Job) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (await attached(collection_harness, job, "trials.jsonl")).splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]
