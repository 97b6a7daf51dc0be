"""The way back from a model to the data that it was trained on."""

import json
from typing import Any, cast

import pytest

from services.gateway.releases.lineage import Origins
from shared.contracts.models import Model, ModelFile, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore
from shared.stores.models import ModelStore

pytestmark = pytest.mark.anyio

MODEL = Model(
    name="m-0123456789ab",
    tenant="acme",
    kind=ModelKind.EMBEDDER,
    hash="0123456789ab",
    files=(ModelFile(path="model.safetensors", size=1, sha256="a"),),
    base="all-MiniLM-L6-v2",
    job="train-1",
    dataset="d" * 64,
    created_at=1.0,
    metrics={"ndcg": 0.8},
)
MANIFEST = {"hash": "d" * 64, "collection": "docs", "sources": ["feedback"]}


class Spec:
    def model_dump(self, **_: Any) -> dict[str, object]:
        return {"kind": "train", "dataset": "dataset-1", "target": "embedder"}


class Known:
    """Stores that know one model, its training and its data set; or, once forgotten, nothing of the last two."""

    def __init__(self) -> None:
        self.specs = self
        self.forgotten = False
        self.content = json.dumps(MANIFEST).encode()

    async def get(self, tenant: str, name: str) -> Any:
        found = {"m-0123456789ab": MODEL, "train-1": Spec(), "dataset-1/dataset.json": self.content}.get(name)
        if found is None or tenant != "acme" or (self.forgotten and found is not MODEL):
            raise Problem(ProblemType.NOT_FOUND, name)
        return found

    async def size(self, tenant: str, name: str) -> int:
        return len(await self.get(tenant, name))


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def origins(known: Known) -> Origins:
    return Origins(models=cast("ModelStore", known), jobs=cast("JobStore", known), artifacts=cast("Artifacts", known))


async def test_a_model_leads_to_its_job_its_data_set_and_the_sources_of_that(origins: Origins) -> None:
    (found,) = await origins.of_models("acme", frozenset({MODEL.name}))
    assert (found.job, found.base, found.metrics) == ("train-1", "all-MiniLM-L6-v2", {"ndcg": 0.8})
    assert found.train["target"] == "embedder"
    assert (found.dataset.job, found.dataset.hash, found.dataset.manifest) == ("dataset-1", "d" * 64, MANIFEST)


async def test_what_nobody_remembers_is_left_empty(origins: Origins, known: Known) -> None:
    known.forgotten = True
    (found,) = await origins.of_models("acme", frozenset({MODEL.name}))
    assert (found.job, found.train, found.dataset.manifest, found.dataset.hash) == ("train-1", {}, {}, "d" * 64)


async def test_a_manifest_that_is_too_large_or_not_json_is_left_out(origins: Origins, known: Known) -> None:
    for content in (b"[1]", b"no json", b'{"x": "' + b"y" * 300_000 + b'"}'):
        known.content = content
        (found,) = await origins.of_models("acme", frozenset({MODEL.name}))
        assert found.dataset.manifest == {}


async def test_models_of_others_and_those_that_are_gone_are_passed_over_for_an_answer(origins: Origins) -> None:
    assert await origins.known("zeta", frozenset({MODEL.name})) == ()
    assert len(await origins.known("acme", frozenset({MODEL.name, "m-000000000000"}))) == 1
