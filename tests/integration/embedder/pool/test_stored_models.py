"""The stages embed and rerank with models of the store: real weights, a real broker."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.embedder.model.model import EmbeddingModel, ModelConfig
from services.embedder.pool.stored_model import StoredModels, stored_models
from services.embedder.reranking import LateInteractionConfig, create_reranker
from services.embedder.stages.embed import Embedding
from services.embedder.stages.rerank import Reranking
from shared.contracts.envelope import Lane, Passage, Query, Stop
from shared.contracts.models import Model, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import MODEL_FILES
from shared.runtime.device import SharedDevice
from shared.runtime.stage import Context
from shared.stores.model_folder import ModelFolder
from shared.stores.models import ModelStore
from tests.harness.embedding_models import fine_tuned, tiny_embedder
from tests.harness.stage_harness import StageHarness

pytestmark = pytest.mark.anyio

OWN = "m-own"
LAMP = "The lamp of the lighthouse burned oil."


@pytest.fixture(scope="module")
def own() -> EmbeddingModel:
    return EmbeddingModel.load(ModelConfig(threads=1))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fine_tuned(tmp_path_factory.mktemp("tuned") / "model")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return [tiny_embedder(folder / f"{seed}", seed=seed) for seed in range(3)]


@dataclass(kw_only=True)
class Embedder:
    """The stages of one embedder, as a stop calls them."""

    harness: StageHarness
    store: ModelStore
    models: StoredModels
    embedding: Embedding
    reranking: Reranking
    cache: Path

    async def add(self, folder: Path, tenant: str = "acme", kind: ModelKind = ModelKind.EMBEDDER) -> Model:
        return await self.store.put(tenant, folder, kind)

    async def vector(self, text: str, model: str = "", *, tenant: str = "acme") -> np.ndarray:
        query = self._query("embed", tenant, question=text, model=model)
        made = await self.embedding(query, _context(query))
        return np.frombuffer(made.embedding or b"", "<f4")

    async def vectors(self, texts: list[str], model: str = "", *, tenant: str = "acme") -> np.ndarray:
        passages = tuple(
            Passage(id=str(n), document_id="d", document="d", position=n, text=text) for n, text in enumerate(texts)
        )
        query = self._query("embed", tenant, passages=passages, lane=Lane.BATCH, model=model, target="passages")
        made = await self.embedding(query, _context(query))
        return np.array([np.frombuffer(passage.vector or b"", "<f4") for passage in made.passages])

    async def ranked(self, question: str, texts: list[str], model: str = "") -> Query:
        passages = tuple(
            Passage(id=str(n), document_id="d", document="d", position=n, text=text) for n, text in enumerate(texts)
        )
        query = self._query("rerank", "acme", question=question, passages=passages, model=model, budget=30.0)
        return await self.reranking(query, _context(query))

    def _query(self, stage: str, tenant: str, *, lane: Lane = Lane.INTERACTIVE, **said: Any) -> Query:
        members = {name: said.pop(name) for name in ("question", "passages") if name in said}
        params = {name: value for name, value in said.items() if value}
        now = time.time()
        slip = (Stop(stage=stage, params=params),)
        return Query(id="q", tenant=tenant, lane=lane, asked_at=now, deadline=now + 60, reply="r", slip=slip, **members)


def _context(query: Query) -> Context:
    return Context(query, origin={}, hop=None, send=None, delivered=None)  # type: ignore[arg-type]


@pytest.fixture
async def embedder(harness: StageHarness, own: EmbeddingModel, tmp_path: Path) -> AsyncIterator[Embedder]:
    store = ModelStore(harness.jetstream)
    cache = tmp_path / "cache"
    folder = ModelFolder(store, cache, max_bytes=2**30)
    device = SharedDevice("embed")
    pool = stored_models(folder, ModelConfig(threads=1), most=2, turns=own.turns, device=device)
    reranker = create_reranker(LateInteractionConfig(), own)
    async with (
        pool.running() as models,
        Embedding(own, models, device=device, cache_bytes=2**20).running() as embedding,
        Reranking(reranker, models, budget=30.0).running() as reranking,
    ):
        yield Embedder(
            harness=harness, store=store, models=models, embedding=embedding, reranking=reranking, cache=cache
        )


async def test_a_fine_tuned_model_embeds_as_its_weights_say_and_the_own_one_as_before(
    embedder: Embedder, own: EmbeddingModel, tuned: Path
) -> None:
    model = await embedder.add(tuned)
    before = await embedder.vector(LAMP)
    expected = EmbeddingModel.load(ModelConfig(name=str(tuned), threads=1)).embed([LAMP])[0]
    found, (passage,) = await embedder.vector(LAMP, model.name), await embedder.vectors([LAMP], model.name)
    assert found == pytest.approx(expected, abs=1e-3)
    assert passage == pytest.approx(expected, abs=1e-3)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-3)
    assert float(found @ before) < 0.999
    assert await embedder.vector(LAMP) == pytest.approx(before)


async def test_models_of_other_dimensions_work_beside_each_other_under_load(
    embedder: Embedder, tiny: list[Path]
) -> None:
    names = ["", *[(await embedder.add(folder)).name for folder in tiny[:2]]]
    alone = {name: await embedder.vectors([LAMP], name) for name in names}
    texts = [f"{LAMP} {number}" for number in range(20)]
    together = await asyncio.gather(
        *(embedder.vector(text, name) for text in texts for name in names),
        *(embedder.vectors([LAMP, *texts], name) for name in names for _ in range(3)),
    )
    for place, name in enumerate(names * 20):
        assert together[place].shape == alone[name][0].shape
    for place, name in enumerate(name for name in names for _ in range(3)):
        found = together[60 + place]
        assert found.shape == (21, alone[name].shape[1])
        assert found[0] == pytest.approx(alone[name][0], abs=1e-3)
    assert {alone[name].shape[1] for name in names} == {384, 32}


async def test_more_models_than_there_is_room_for_take_turns(embedder: Embedder, tiny: list[Path]) -> None:
    names = [(await embedder.add(folder)).name for folder in tiny]
    first = {name: (await embedder.vectors([LAMP], name))[0] for name in names}
    assert not all(embedder.models.is_open(("acme", name)) for name in names)  # type: ignore[arg-type]
    rounds = [name for _ in range(5) for name in names]
    found = await asyncio.gather(*(embedder.vectors([LAMP], name) for name in rounds))
    for name, (vector,) in zip(rounds, found, strict=True):
        assert vector == pytest.approx(first[name], abs=1e-3)


async def test_the_same_question_has_a_vector_of_each_model(embedder: Embedder, tiny: list[Path]) -> None:
    names = [(await embedder.add(folder)).name for folder in tiny[:2]]
    for _ in range(2):
        a, b, own = [await embedder.vector(LAMP, name) for name in (*names, "")]
        assert a.shape == b.shape != own.shape
        assert not np.allclose(a, b)


async def test_a_model_of_another_tenant_is_not_there(embedder: Embedder, tiny: list[Path]) -> None:
    model = await embedder.add(tiny[0], tenant="zeta")
    with pytest.raises(Problem) as caught:
        await embedder.vector(LAMP, model.name)
    assert caught.value.kind is ProblemType.MODEL_NOT_FOUND
    assert len(await embedder.vector(LAMP, model.name, tenant="zeta")) == 32
    with pytest.raises(Problem):
        await embedder.vector(LAMP + " again", model.name)


async def test_a_model_that_was_deleted_is_a_clear_problem_and_the_own_one_works(
    embedder: Embedder, tiny: list[Path]
) -> None:
    model = await embedder.add(tiny[0])
    await embedder.store.delete("acme", model.name)
    with pytest.raises(Problem, match=f"no model '{model.name}'"):
        await embedder.vector(LAMP, model.name)
    assert len(await embedder.vector(LAMP)) == 384


async def test_a_model_whose_tokenizer_panics_is_a_clear_problem_and_the_own_one_works(
    embedder: Embedder, tiny: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny[0], folder)
    for name, members in (
        ("tokenizer.json", {"pre_tokenizer": {"type": "FixedLength", "length": 0}}),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ):
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **members}))
    model = await embedder.add(folder)
    with pytest.raises(Problem, match=r"cannot be loaded\. PanicException") as caught:
        await embedder.vector(LAMP, model.name)
    assert caught.value.kind is ProblemType.MODEL_UNAVAILABLE
    assert len(await embedder.vector(LAMP)) == 384


async def test_a_file_that_was_damaged_in_the_store_is_a_clear_problem(embedder: Embedder, tiny: list[Path]) -> None:
    model = await embedder.add(tiny[0])
    files = await embedder.harness.jetstream.object_store(MODEL_FILES)
    await files.put(f"acme/{model.name}/config.json", b'{"model_type": "bert"}')
    with pytest.raises(Problem, match="was changed or damaged") as caught:
        await embedder.vector(LAMP, model.name)
    assert caught.value.kind is ProblemType.MODEL_UNAVAILABLE
    assert len(await embedder.vector(LAMP)) == 384


async def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(embedder: Embedder, tiny: list[Path]) -> None:
    model = await embedder.add(tiny[0])
    expected = await EmbeddingsOf(tiny[0]).vector(LAMP)
    await ModelFolder(embedder.store, embedder.cache, max_bytes=2**30).fetch("acme", model.name)
    weights = embedder.cache / model.hash / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100:] = bytes(100)
    weights.write_bytes(bytes(data))
    assert await embedder.vector(LAMP, model.name) == pytest.approx(expected, abs=1e-3)


class EmbeddingsOf:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def vector(self, text: str) -> np.ndarray:
        model = await asyncio.to_thread(EmbeddingModel.load, ModelConfig(name=str(self._folder), threads=1))
        return model.embed([text])[0]


async def test_the_cache_keeps_to_its_bound_and_what_is_used_stays(
    embedder: Embedder, tiny: list[Path], tmp_path: Path
) -> None:
    models = [await embedder.add(folder) for folder in tiny]
    folder = ModelFolder(embedder.store, tmp_path / "small", max_bytes=models[0].size + 1000)
    for model in models:
        await folder.fetch("acme", model.name)
    assert [path.name for path in (tmp_path / "small").iterdir()] == [models[-1].hash]


async def test_an_embedder_of_the_store_reranks_by_late_interaction(embedder: Embedder, tuned: Path) -> None:
    model = await embedder.add(tuned)
    found = await embedder.ranked("What did the lamp burn?", ["Cheese is made of milk.", LAMP], model.name)
    assert found.passages[0].text == LAMP
    assert found.notes["rerank"]["model"] == model.name  # type: ignore[call-overload, index]
    own = await embedder.ranked("What did the lamp burn?", ["Cheese is made of milk.", LAMP])
    assert own.notes["rerank"]["model"] != model.name  # type: ignore[call-overload, index]
    assert own.passages[0].score != found.passages[0].score


async def test_a_model_of_the_wrong_kind_is_refused(embedder: Embedder, tiny: list[Path], tmp_path: Path) -> None:
    shutil.copytree(tiny[0], tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    model = await embedder.add(tmp_path / "adapter", kind=ModelKind.ADAPTER)
    with pytest.raises(Problem, match="adapter for a language model"):
        await embedder.vector(LAMP, model.name)
