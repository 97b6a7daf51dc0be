"""An adapter from its training to the answers of a collection, by the command line, with real vLLM on the CPU."""

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from sluice import Client
from sluice.client.errors import SluiceError
from tests.harness.adapters import PHRASE, answers
from tests.harness.platform import Platform, eventually
from tests.harness.tiny_model import make_adapter
from tests.harness.training import parquet_of

pytestmark = [
    pytest.mark.timeout(1_200),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: `make vllm`"),
]

QUESTION = "Where is the anchor?"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("adapter")
    settings = {
        "engine": "vllm",
        "vllm_model": tiny_model,
        "vllm_served_name": "tiny",
        "vllm_kv_cache_gb": 0.25,
        "vllm_dtype": "float32",
        "vllm_stored_adapters": 2,
        "training_bases": tiny_model,
    }
    with Platform(folder, patience=400.0, **settings) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def things(client: Client) -> str:
    client.create_collection("things")
    client.wait(client.add_texts("things", {"anchor.md": "The anchor lies in the kitchen."}).id)
    return "things"


def change(platform: Platform, collection: str, adapter: str) -> None:
    answer = httpx.patch(f"{platform.url}/v1/collections/{collection}", json={"adapter": adapter}, trust_env=False)
    answer.raise_for_status()


def ask(client: Client, collection: str) -> tuple[str, str]:
    """The answer, and what has written it."""
    answer = client.query(QUESTION, collection=collection, generate={"temperature": 0, "max_tokens": 24})
    return answer.answer.strip(), answer.model


def test_a_collection_answers_as_its_adapter_was_taught_and_a_release_remembers_it(
    platform: Platform, client: Client, things: str, tiny_model: Path, tmp_path: Path
) -> None:
    for name in ("answers", "test_answers"):
        file = tmp_path / f"{name}.parquet"
        file.write_bytes(parquet_of(answers()))
        client.put_artifact(f"taught/{name}.parquet", file)
    before = ask(client, things)
    assert PHRASE not in before[0]
    assert before[1] == "tiny"
    options = ["--steps", "80", "--batch", "8", "--lr", "0.005", "--set", "validation=0"]
    shown = platform.sluice("train", "taught", "--target", "adapter", "--base", str(tiny_model), *options, "--json")
    outputs = json.loads(shown)["outputs"]
    assert outputs["perplexity_after"] < outputs["perplexity_before"] / 2
    (model,) = client.registered_models()
    assert (model.kind, model.base) == ("adapter", "tiny")

    change(platform, things, model.name)
    assert ask(client, things) == (f"{PHRASE} [1]", model.name)
    release = client.create_release(things, description="taught")
    assert (release.content.adapter, release.content.adapter_hash) == (model.name, model.hash)
    assert model.name in platform.sluice("releases", "lineage", release.name)
    with pytest.raises(SluiceError, match="is used by"):
        client.delete_model(model.name)

    change(platform, things, "")
    assert ask(client, things) == before
    job = client.wait(client.promote_release(release.name).id)
    assert job.state == "succeeded", job.error
    eventually(lambda: ask(client, things) == (f"{PHRASE} [1]", model.name), "the release answers")
    assert json.loads(platform.sluice("collections", "versions", things, "--json"))[0]["adapter"] == model.name


def test_what_is_no_adapter_is_refused_and_one_that_does_not_fit_is_a_problem_of_its_collection(
    platform: Platform, client: Client, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(SluiceError) as caught:
        client.create_collection("no-adapter", adapter="m-000000000000")
    assert caught.value.code == "model-not-found"
    large = client.import_model(make_adapter(tmp_path / "large", tiny_model, rank=128), kind="adapter").name
    client.create_collection("large", adapter=large)
    client.wait(client.add_texts("large", {"anchor.md": "The anchor lies in the kitchen."}).id)
    with pytest.raises(SluiceError, match="Its rank is 128, and this generator takes up to 64") as refused:
        ask(client, "large")
    assert refused.value.code == "model-unavailable"
