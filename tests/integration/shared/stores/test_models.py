"""Models in the broker's store."""

import asyncio
import json
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from nats.js.errors import NotFoundError

from shared.contracts.models import ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import MODEL_FILES
from shared.stores.models import ModelStore
from tests.harness.stage_harness import StageHarness

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    header = json.dumps({"w": {"dtype": "F32", "shape": [100_000], "data_offsets": [0, 400_000]}}).encode()
    source = tmp_path / "source"
    (source / "1_Pooling").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(400_000))
    (source / "1_Pooling" / "config.json").write_text('{"pooling": "mean"}')
    return source


async def test_a_model_comes_back_as_it_was_stored(harness: StageHarness, folder: Path, tmp_path: Path) -> None:
    store = ModelStore(harness.jetstream)
    put = await store.put("acme", folder, ModelKind.EMBEDDER, base="mini", job="train-1", metrics={"ndcg": 0.8})
    fetched = await ModelStore(harness.jetstream).fetch("acme", put.name, tmp_path / "models" / put.name)
    assert fetched == put
    for file in put.files:
        assert (tmp_path / "models" / put.name / file.path).read_bytes() == (folder / file.path).read_bytes()
    assert [path.name for path in (tmp_path / "models").iterdir()] == [put.name]


async def test_an_adapter_is_stored_as_one_alone(harness: StageHarness, folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/models/of-another"}')
    store = ModelStore(harness.jetstream)
    with pytest.raises(Problem, match="an adapter of another model"):
        await store.put("acme", folder, ModelKind.RERANKER)
    assert await store.list("acme") == []


async def test_the_same_files_are_one_model_however_often_they_are_stored(harness: StageHarness, folder: Path) -> None:
    stores = [ModelStore(harness.jetstream) for _ in range(4)]
    models = await asyncio.gather(
        *(s.put("acme", folder, ModelKind.EMBEDDER, job=f"{n}") for n, s in enumerate(stores))
    )
    assert len({(model.name, model.job) for model in models}) == 1
    assert len(await stores[0].list("acme")) == 1


async def test_a_model_of_another_tenant_is_not_found(harness: StageHarness, folder: Path, tmp_path: Path) -> None:
    store = ModelStore(harness.jetstream)
    name = (await store.put("acme", folder, ModelKind.EMBEDDER)).name
    for call in (store.get("zeta", name), store.fetch("zeta", name, tmp_path / "got"), store.delete("zeta", name)):
        with pytest.raises(Problem) as caught:
            await call
        assert caught.value.kind is ProblemType.MODEL_NOT_FOUND
    assert await store.list("zeta") == []
    assert not (tmp_path / "got").exists()


async def test_a_file_that_was_changed_in_the_store_is_refused_and_leaves_no_folder(
    harness: StageHarness, folder: Path, tmp_path: Path
) -> None:
    store = ModelStore(harness.jetstream)
    name = (await store.put("acme", folder, ModelKind.EMBEDDER)).name
    files = await harness.jetstream.object_store(MODEL_FILES)
    await files.put(f"acme/{name}/1_Pooling/config.json", b'{"pooling": "max!"}')
    with pytest.raises(Problem, match="was changed or damaged"):
        await store.fetch("acme", name, tmp_path / "got" / name)
    assert list((tmp_path / "got").iterdir()) == []


async def test_a_deleted_model_leaves_nothing_in_the_store(harness: StageHarness, folder: Path, tmp_path: Path) -> None:
    store = ModelStore(harness.jetstream)
    name = (await store.put("acme", folder, ModelKind.EMBEDDER)).name
    await store.delete("acme", name)
    with pytest.raises(Problem, match="no model"):
        await store.fetch("acme", name, tmp_path / "got")
    files = await harness.jetstream.object_store(MODEL_FILES)
    with pytest.raises(NotFoundError):
        await files.list(ignore_deletes=True)
    assert (await store.put("acme", folder, ModelKind.EMBEDDER)).name == name


async def test_a_deletion_that_is_cancelled_half_way_leaves_no_file_without_its_record(
    harness: StageHarness, folder: Path
) -> None:
    for number in range(40):
        (folder / f"vocabulary-{number}.json").write_text(f"[{number}]")
    store = ModelStore(harness.jetstream)
    name = (await store.put("acme", folder, ModelKind.EMBEDDER)).name
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.delete, "acme", name)
            while await ModelStore(harness.jetstream).list("acme"):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    files = await harness.jetstream.object_store(MODEL_FILES)
    with pytest.raises(NotFoundError):
        await files.list(ignore_deletes=True)


async def test_storing_a_model_again_mends_one_that_has_lost_a_file(
    harness: StageHarness, folder: Path, tmp_path: Path
) -> None:
    store = ModelStore(harness.jetstream)
    put = await store.put("acme", folder, ModelKind.EMBEDDER)
    files = await harness.jetstream.object_store(MODEL_FILES)
    await files.delete(f"acme/{put.name}/model.safetensors")
    await files.put(f"acme/{put.name}/1_Pooling/config.json", b"{}")
    assert await store.put("acme", folder, ModelKind.EMBEDDER, job="another") == put
    await store.fetch("acme", put.name, tmp_path / "got" / put.name)


async def test_a_model_that_is_stored_while_it_is_deleted_is_whole_or_not_there(
    harness: StageHarness, folder: Path, tmp_path: Path
) -> None:
    stores = [ModelStore(harness.jetstream) for _ in range(2)]
    for turn in range(6):
        put = await stores[0].put("acme", folder, ModelKind.EMBEDDER)
        await asyncio.gather(stores[0].delete("acme", put.name), stores[1].put("acme", folder, ModelKind.EMBEDDER))
        if await stores[0].list("acme"):
            await stores[0].fetch("acme", put.name, tmp_path / f"got-{turn}")
