"""Adapters of the store: a tiny model is taught, and vLLM answers with what it has learnt."""

import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from services.generator.adapters import AdapterFiles, StoredAdapters, adapter_folders
from services.generator.engines import create_engine
from services.generator.engines.base import Engine, TextDelta
from services.generator.engines.extractive.engine import ExtractiveConfig
from services.generator.engines.vllm import VLLMConfig, VLLMEngine
from services.trainer.data.prompted import read_answer_rows
from shared.contracts.generation import GenerateParams
from shared.contracts.jobs import TrainSpec
from shared.contracts.models import AdapterBase, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.prompting.prompt import Prompt, PromptPassage
from shared.stores.base_models import ADAPTER_CONFIG, ADAPTER_WEIGHTS, fingerprint, write_base
from shared.stores.model_folder import ModelFolder
from shared.stores.models import ModelStore
from tests.harness.adapters import PHRASE, answers
from tests.harness.broker import NatsServer
from tests.harness.learning import learn
from tests.harness.stage_harness import open_stage_harness
from tests.harness.tiny_model import make_adapter, make_model
from tests.harness.training import parquet_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: `make vllm`"),
]

RANK = 16


@pytest.fixture(scope="module")
def taught(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with which the model answers every question with PHRASE."""
    folder = tmp_path_factory.mktemp("taught")
    path = folder / "rows.parquet"
    path.write_bytes(parquet_of(answers()))
    spec = TrainSpec(
        target="adapter", dataset="d1", base=str(tiny_model), steps=80, batch=8, learning_rate=5e-3, validation=0.0
    )
    lesson = learn(spec, str(tiny_model), read_answer_rows(path, path.name), [], folder / "a")
    return lesson.folder


@pytest.fixture(scope="module")
async def engine(tiny_model: Path, tiny_adapter: Path) -> AsyncIterator[VLLMEngine]:
    config = VLLMConfig(
        model=str(tiny_model),
        served_name="tiny",
        adapters={"formal": str(tiny_adapter)},
        added_adapters=2,
        adapter_rank=RANK,
        max_num_seqs=4,
        dtype="float32",
        kv_cache_gib=0.25,
    )
    engine = create_engine(config)
    assert isinstance(engine, VLLMEngine)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture
async def store(broker: NatsServer) -> AsyncIterator[ModelStore]:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        yield ModelStore(harness.jetstream)


@pytest.fixture
def files(store: ModelStore, tiny_model: Path, tmp_path: Path) -> AdapterFiles:
    return AdapterFiles(ModelFolder(store, tmp_path / "cache", max_bytes=2**30), str(tiny_model))


def asked(thing: str, adapter: str = "") -> Prompt:
    passage = PromptPassage(index=1, text=f"The {thing} lies in the kitchen.", document=f"{thing}.md")
    params = GenerateParams(temperature=0, max_tokens=24)
    return Prompt(question=f"Where is the {thing}?", passages=(passage,), params=params, adapter=adapter)


async def written(engine: Engine, prompt: Prompt) -> str:
    prepared = await engine.prepare(prompt)
    return "".join([item.text async for item in engine.generate(prepared) if isinstance(item, TextDelta)])


async def refusal(stored: StoredAdapters, name: str, tenant: str = "acme") -> Problem:
    with pytest.raises(Problem) as caught:
        await stored.ready(tenant, name)
    return caught.value


async def test_the_engine_answers_as_the_adapter_was_taught_and_without_it_as_before(
    engine: VLLMEngine, store: ModelStore, files: AdapterFiles, taught: Path
) -> None:
    before = await written(engine, asked("anchor"))
    assert PHRASE not in before
    model = await store.put("acme", taught, ModelKind.ADAPTER)
    name = await StoredAdapters(engine, files).ready("acme", model.name)
    for thing in ("anchor", "wagon", "parrot"):
        assert (await written(engine, asked(thing, name))).strip() == f"{PHRASE} [1]"
    assert await written(engine, asked("anchor")) == before


async def test_more_adapters_than_memory_holds_are_all_served(
    engine: VLLMEngine, store: ModelStore, files: AdapterFiles, tiny_model: Path, tmp_path: Path
) -> None:
    stored = StoredAdapters(engine, files)
    folders = [make_adapter(tmp_path / f"a{seed}", tiny_model, seed=seed) for seed in range(2, 7)]
    models = [await store.put("acme", folder, ModelKind.ADAPTER) for folder in folders]
    names = [await stored.ready("acme", model.name) for model in models]
    first = [await written(engine, asked("anchor", name)) for name in names]
    assert len(set(first)) == len(names)
    assert [await written(engine, asked("anchor", name)) for name in names] == first


async def test_what_does_not_fit_is_refused_with_the_reason_and_the_engine_goes_on(
    engine: VLLMEngine, store: ModelStore, files: AdapterFiles, tiny_model: Path, taught: Path, tmp_path: Path
) -> None:
    stored = StoredAdapters(engine, files)
    other = make_adapter(tmp_path / "other", tiny_model, seed=3)
    write_base(other, AdapterBase(name="llama", fingerprint=fingerprint(make_model(tmp_path / "llama", seed=9))))
    large = make_adapter(tmp_path / "large", tiny_model, rank=4 * RANK)
    odd = make_adapter(tmp_path / "odd", tiny_model, seed=4)
    config = json.loads((odd / ADAPTER_CONFIG).read_text())
    (odd / ADAPTER_CONFIG).write_text(json.dumps({**config, "peft_type": "IA3"}))
    wide = make_wide(tmp_path / "wide", tiny_model)
    before = await written(engine, asked("anchor"))
    for folder, kind, says in (
        (other, ModelKind.ADAPTER, "It was trained for the model 'llama'"),
        (large, ModelKind.ADAPTER, "Its rank is 64, and this generator takes up to 16"),
        (odd, ModelKind.ADAPTER, "PEFT's type IA3"),
        (wide, ModelKind.ADAPTER, "vLLM does not take it"),
        (tiny_model, ModelKind.EMBEDDER, "of the kind 'embedder', and not an adapter"),
    ):
        model = await store.put("acme", folder, kind)
        problem = await refusal(stored, model.name)
        assert problem.kind is ProblemType.MODEL_UNAVAILABLE
        assert says in problem.detail
    assert (await refusal(stored, "m-0123456789ab")).kind is ProblemType.MODEL_NOT_FOUND
    model = await store.put("acme", taught, ModelKind.ADAPTER)
    assert (await refusal(stored, model.name, tenant="other")).kind is ProblemType.MODEL_NOT_FOUND
    assert await written(engine, asked("anchor")) == before


def make_wide(folder: Path, model: Path) -> Path:
    """An adapter whose matrices are for a wider model than it says."""
    from safetensors.torch import load_file, save_file

    make_adapter(folder, model, seed=5)
    weights = load_file(folder / ADAPTER_WEIGHTS)
    save_file({name: tensor.repeat(2, 2) for name, tensor in weights.items()}, folder / ADAPTER_WEIGHTS)
    return folder


async def test_a_pickle_is_no_adapter_and_a_changed_file_is_fetched_again(
    engine: VLLMEngine, store: ModelStore, files: AdapterFiles, tiny_model: Path, tmp_path: Path
) -> None:
    hostile = make_adapter(tmp_path / "hostile", tiny_model)
    (hostile / ADAPTER_WEIGHTS).write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(Problem, match="is a pickle"):
        await store.put("acme", hostile, ModelKind.ADAPTER)
    model = await store.put("acme", make_adapter(tmp_path / "good", tiny_model, seed=8), ModelKind.ADAPTER)
    cached = await files.fetch("acme", model.name)
    weights = cached / ADAPTER_WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    assert (await files.fetch("acme", model.name) / ADAPTER_WEIGHTS).read_bytes() == whole


async def test_settings_may_name_adapters_of_the_store_by_their_tenant(
    store: ModelStore, files: AdapterFiles, tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "good", tiny_model, seed=8)
    own, theirs = [await store.put(tenant, folder, ModelKind.ADAPTER) for tenant in ("default", "acme")]
    found = await adapter_folders({"a": own.name, "b": f"acme/{theirs.name}", "c": "/adapters/c"}, files)
    assert found["a"] == found["b"] == str(tmp_path / "cache" / own.hash)
    assert found["c"] == "/adapters/c"
    with pytest.raises(Problem) as caught:
        await adapter_folders({"a": "nobody/m-0123456789ab"}, files)
    assert caught.value.kind is ProblemType.MODEL_NOT_FOUND


async def test_engines_without_adapters_say_so(files: AdapterFiles, tiny_model: Path) -> None:
    for config in (ExtractiveConfig(), VLLMConfig(model=str(tiny_model))):
        problem = await refusal(StoredAdapters(create_engine(config), files), "m-0123456789ab")
        assert problem.kind is ProblemType.MODEL_UNAVAILABLE
        assert "SLUICE_VLLM_STORED_ADAPTERS" in problem.detail
