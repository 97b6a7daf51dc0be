"""Archives of releases that somebody else has made."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from shared.contracts.problems import Problem, ProblemType
from tests.harness.releases import CONTENT, MODEL, MODEL_FILES, StoredModels, import_archive, tar_of

pytestmark = pytest.mark.anyio


def archive(release: Mapping[str, Any] | bytes, **more: bytes) -> bytes:
    said = release if isinstance(release, bytes) else json.dumps(release).encode()
    files = {"release.json": said, **{f"models/{MODEL['name']}/{name}": data for name, data in MODEL_FILES.items()}}
    files |= more
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()
    return tar_of({"SHA256SUMS": sums, **files})


async def imported(content: bytes) -> StoredModels:
    store = StoredModels()
    await import_archive(content, store)
    return store


def release(**members: Any) -> dict[str, Any]:
    return {"name": "r-0123456789ab", "content": CONTENT, "models": [{**MODEL, **members}]}


async def test_a_model_of_a_release_is_stored_as_an_import_of_its_own_would_be() -> None:
    (model,) = (await imported(archive(release(metrics={"ndcg": 0.5}, dataset={"hash": "d" * 64})))).models
    assert (model.dimensions, dict(model.metrics), model.dataset, model.by) == (32, {"ndcg": 0.5}, "d" * 64, "ann")


@pytest.mark.parametrize(
    "said",
    [
        b"[" * 100_000,
        b"{}",
        release(metrics={"loss": float("nan")}),
        release(metrics={"loss": float("inf")}),
        release(metrics={str(number): 1.0 for number in range(101)}),
        release(hash=""),
        release(hash="f" * 63),
        release(name="../../m"),
        release(base="x" * 201),
        release(job="x" * 65),
        release(dataset={"hash": "x" * 10_000_000}),
        {**release(), "name": "x" * 65},
        {**release(), "models": [MODEL] * 9},
    ],
)
async def test_what_a_release_says_of_its_models_is_bounded(said: Mapping[str, Any] | bytes) -> None:
    with pytest.raises(Problem) as caught:
        await imported(archive(said))
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    assert len(caught.value.detail) < 2000


async def test_nothing_is_stored_where_a_later_model_is_refused() -> None:
    bad = {"name": "m-0123456789ab", "kind": "embedder", "hash": "0" * 64}
    store = StoredModels()
    content = archive(
        {**release(), "models": [MODEL, bad]}, **{"models/m-0123456789ab/model.safetensors": b"\x80\x02junk"}
    )
    with pytest.raises(Problem, match="pickle"):
        await import_archive(content, store)
    assert store.models == []


async def test_a_model_that_the_release_does_not_name_is_refused() -> None:
    content = archive(release(), **{"models/m-0123456789ab/config.json": b"{}"})
    with pytest.raises(Problem, match=r"'m-0123456789ab' is in it, and not named"):
        await imported(content)
