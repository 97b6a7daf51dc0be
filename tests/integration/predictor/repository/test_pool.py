"""Which models are in memory: real ONNX models, and a budget for few of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from services.predictor.frameworks.base import FrameworkOptions
from services.predictor.repository.layout import ModelVersionFiles, read_model, stamp_of
from services.predictor.repository.loader import Loader
from services.predictor.repository.pool import ModelPool, PoolOptions
from services.predictor.serving.arrays import to_array, to_tensor
from services.predictor.serving.served_model import ServedModel
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferRequest
from tests.harness.models import write_doubler, write_large

pytestmark = pytest.mark.anyio

ROW = InferRequest(inputs=(to_tensor("x", np.ones((1, 3), np.float32)),))


def files(root: Path, name: str, *, memory_mb: int = 1, factor: float = 2.0) -> ModelVersionFiles:
    """A model on disk that says how much memory it takes."""
    folder = root / name
    write_doubler(folder / "1", factor=factor)
    (folder / "model.yaml").write_text(f"memory_mb: {memory_mb}\n")
    return read_model(folder, stamp_of(folder)).versions[0]


@asynccontextmanager
async def opened(*, budget_mb: int = 100, models: int = 100, retry: float = 60.0) -> AsyncIterator[ModelPool]:
    options = PoolOptions(budget=budget_mb * 2**20, models=models, loads=2, calls=2, batch_rows=32, retry_seconds=retry)
    async with ModelPool(options, Loader(FrameworkOptions(threads=1))).running() as pool:
        yield pool


async def infer(served: ServedModel) -> float:
    (output,) = await served.infer(ROW, Lane.INTERACTIVE)
    return float(to_array(output)[0, 0])


async def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    one, two, three = (files(tmp_path, name, memory_mb=40) for name in ("one", "two", "three"))
    async with opened() as pool:
        for each in (one, two, one, three):
            async with pool.model(each) as served:
                assert await infer(served) == 2.0
        assert [pool.is_loaded(each) for each in (one, two, three)] == [True, False, True]


async def test_a_model_in_use_stays_and_the_next_waits_for_it(tmp_path: Path) -> None:
    one, two = (files(tmp_path, name, memory_mb=60) for name in ("one", "two"))
    async with opened() as pool, AsyncExitStack() as held:
        used = await held.enter_async_context(pool.model(one))
        waiting = asyncio.create_task(held.enter_async_context(pool.model(two)))
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done()
        assert await infer(used) == 2.0
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_left(held, waiting))
        assert pool.is_loaded(two)
        assert not pool.is_loaded(one)


async def _left(held: AsyncExitStack, waiting: "asyncio.Task[ServedModel]") -> None:
    """The first request ends, and so the second gets its model."""
    await held.aclose()
    assert await infer(await waiting) == 2.0


async def test_many_requests_for_one_model_load_it_once(tmp_path: Path) -> None:
    model = files(tmp_path, "one")
    loads = 0
    load = Loader(FrameworkOptions(threads=1))

    def counted(wanted: ModelVersionFiles):  # type: ignore[no-untyped-def]
        nonlocal loads
        loads += 1
        return load(wanted)

    options = PoolOptions(budget=2**30, models=9, loads=2, calls=2, batch_rows=32, retry_seconds=1)
    async with ModelPool(options, counted).running() as pool:

        async def use() -> float:
            async with pool.model(model) as served:
                return await infer(served)

        assert await asyncio.gather(*(use() for _ in range(20))) == [2.0] * 20
    assert loads == 1


async def test_unloading_waits_for_those_who_use_the_model(tmp_path: Path) -> None:
    model = files(tmp_path, "one")
    async with opened() as pool:
        async with pool.model(model) as served:
            pool.unload("one")
            assert not pool.is_loaded(model)
            assert await infer(served) == 2.0
        async with pool.model(model) as served:
            assert await infer(served) == 2.0


async def test_a_model_that_fails_says_why_until_it_is_tried_again(tmp_path: Path) -> None:
    model = files(tmp_path, "one")
    assert model.file is not None
    whole = model.file.read_bytes()
    model.file.write_bytes(b"this is no model")
    async with opened(retry=0.2) as pool:
        for _ in range(2):
            with pytest.raises(Problem, match="cannot be loaded: InvalidProtobuf") as raised:
                await _use(pool, model)
            assert raised.value.kind is ProblemType.MODEL_UNAVAILABLE
        assert "InvalidProtobuf" in pool.failure(model)
        model.file.write_bytes(whole)
        async with asyncio.timeout(30):
            while not pool.is_loaded(model):
                await asyncio.sleep(0.02)
                try:
                    await _use(pool, model)
                except Problem:
                    continue
        assert pool.failure(model) == ""


async def test_a_model_that_never_fits_is_refused(tmp_path: Path) -> None:
    write_large(tmp_path / "large" / "1", megabytes=4)
    large = read_model(tmp_path / "large", stamp_of(tmp_path / "large")).versions[0]
    async with opened(budget_mb=2) as pool:
        with pytest.raises(Problem, match=r"it takes 4 MiB, and all models together may take 2 MiB"):
            await _use(pool, large)
        assert await _use(pool, files(tmp_path, "small")) == 2.0


async def test_files_that_changed_are_another_model(tmp_path: Path) -> None:
    before = files(tmp_path, "one")
    async with opened() as pool:
        async with pool.model(before) as old:
            after = files(tmp_path, "one", factor=5.0)
            pool.keep_only([after])
            assert (await infer(old), await _use(pool, after)) == (2.0, 5.0)
        assert not pool.is_loaded(before)


async def _use(pool: ModelPool, model: ModelVersionFiles) -> float:
    async with pool.model(model) as served:
        return await infer(served)
