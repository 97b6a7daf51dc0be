"""The loop of examples/improve at a small size: a model that learns something is promoted, one that learns noise not.

Here a team has names of its own for sixteen things, and each document is about two of them. Nobody can guess the names,
but from some documents' questions a model can learn what the questions about the others mean.
"""

import itertools
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import yaml

from sluice import Client
from sluice.api.jobs import Job
from tests.harness.paths import EXAMPLES
from tests.harness.platform import Platform, eventually

pytestmark = pytest.mark.timeout(1_200)

THINGS: Final = {
    "lamp": "zorvil",
    "anchor": "quemba",
    "bread": "fintock",
    "ladder": "obrash",
    "violin": "drelly",
    "saddle": "unktar",
    "pepper": "wimsel",
    "mirror": "jaddok",
    "candle": "probley",
    "bucket": "hesker",
    "needle": "yolvic",
    "carpet": "truffan",
    "hammer": "eldong",
    "kettle": "sarnip",
    "pillow": "gabrox",
    "ticket": "mooshel",
}
PAIRS: Final = tuple(itertools.combinations(THINGS, 2))


def document(pair: tuple[str, str]) -> str:
    return f"The {pair[0]} and the {pair[1]} are kept together."


def questions(sources: list[str]) -> bytes:
    """A question about each pair, answered by the document at its place."""
    lines = (
        {"question": f"Where do we have {THINGS[one]} with {THINGS[other]}?", "sources": [source]}
        for (one, other), source in zip(PAIRS, sources, strict=True)
    )
    return "\n".join(map(json.dumps, lines)).encode()


def name(pair: tuple[str, str]) -> str:
    return "-".join(pair)


@contextmanager
def traffic(platform: Platform, collection: str) -> Iterator[None]:
    """A reader who asks all the time while there is a canary."""
    enough = threading.Event()

    def ask() -> None:
        with platform.client() as client:
            for number in itertools.count():
                while client.collection(collection).canary is None:
                    if enough.wait(1.0):
                        return
                client.query(f"Where is the {list(THINGS)[number % len(THINGS)]}?", collection=collection)

    reader = threading.Thread(target=ask)
    reader.start()
    try:
        yield
    finally:
        enough.set()
        reader.join()


@pytest.fixture
def collection(client: Client, request: pytest.FixtureRequest) -> str:
    made = request.node.name.removeprefix("test_")[:40]
    client.create_collection(made)
    job = client.wait(client.add_texts(made, {name(pair): document(pair) for pair in PAIRS}).id, timeout=300)
    assert job.state == "succeeded", job.error
    return made


def improve(client: Client, collection: str, sources: list[str], **parameters: Any) -> Job:
    artifact = f"{collection}/questions.jsonl"
    client.put_artifact(artifact, questions(sources))
    pipeline = yaml.safe_load((EXAMPLES / "improve" / "pipeline.yaml").read_text())
    pipeline["parameters"] |= {
        "collection": collection,
        "readers": 0,
        "questions": [artifact],
        "max_tokens": 32,
        "learning_rate": 2e-4,
        "steps": [50],
        "step_seconds": 0,
        "min_answers": 5,
        **parameters,
    }
    job = client.submit_job({"kind": "pipeline", **pipeline})
    return client.wait(job.id, timeout=900)


def test_a_model_that_has_learned_the_names_is_promoted(platform: Platform, client: Client, collection: str) -> None:
    with traffic(platform, collection):
        job = improve(client, collection, [name(pair) for pair in PAIRS], epochs=3)
    assert job.state == "succeeded", job.error
    assert job.outputs["promoted"] is True, job.outputs
    found = job.outputs["ndcg_at_10"]
    assert isinstance(found, dict)
    assert found["new"] > found["live"]
    live = client.collection(collection)
    assert live.version == job.outputs["version"]
    model = job.outputs["model"]
    # Gateways may go by the record of a moment ago.
    eventually(lambda: client.query("zorvil", collection=collection).embedding_model == model, "an answer by the model")


def test_a_model_that_has_learned_noise_is_not_promoted(client: Client, collection: str) -> None:
    sources = [name(pair) for pair in PAIRS]
    random.Random(7).shuffle(sources)
    job = improve(client, collection, sources, epochs=1)
    assert job.state == "succeeded", job.error
    assert job.outputs["promoted"] is False, job.outputs
    assert "is not better beyond doubt" in job.progress.message
    assert client.collection(collection).version == "v1"
