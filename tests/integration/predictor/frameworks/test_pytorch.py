"""Models of PyTorch: what a program says of its tensors, what it refuses, and modules with their weights."""

import asyncio
import gc
import inspect
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import JsonValue
from safetensors.torch import save_file

from services.predictor.frameworks.base import FrameworkOptions, LoadedModel, ModelFiles, NotLoadableError
from services.predictor.frameworks.pytorch.framework import PytorchFramework
from services.predictor.frameworks.registry import FRAMEWORKS, find_file
from services.predictor.serving.arrays import to_array, to_tensor
from services.predictor.serving.served_model import ModelLimits, ServedModel
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferRequest, TensorSpec

pytestmark = pytest.mark.anyio

LANE = Lane.INTERACTIVE
LARGE = 64 * 2**20
"""Bytes of weights."""

SIZE = torch.export.Dim.DYNAMIC

MODULE = """
import torch


class Model(torch.nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, width)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.layer(x), "kind": x.argmax(1)}
"""


def load(
    file: Path,
    *,
    inputs: tuple[TensorSpec, ...] = (),
    outputs: tuple[TensorSpec, ...] = (),
    parameters: Mapping[str, JsonValue] | None = None,
    options: FrameworkOptions = FrameworkOptions(),  # noqa: B008
) -> LoadedModel:
    framework = PytorchFramework()
    framework.prepare()
    files = ModelFiles(
        name="m",
        version="1",
        folder=file.parent,
        file=file,
        inputs=inputs,
        outputs=outputs,
        parameters=parameters or {},
    )
    return framework.load(files, options)


def export(
    folder: Path, module: torch.nn.Module, args: tuple[Any, ...], sizes: Any, kwargs: dict[str, Any] | None = None
) -> Path:
    program = torch.export.export(module.eval(), args, kwargs, dynamic_shapes=sizes)
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def spec(name: str, datatype: Datatype, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


async def ask(model: LoadedModel, rows: int = 32, **arrays: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    with ThreadPoolExecutor(1) as threads:
        served = ServedModel("m", model, ModelLimits(batch_rows=rows, waiting=10), threads)
        async with served.running():
            tensors = tuple(to_tensor(name, array) for name, array in arrays.items())
            made = await served.infer(InferRequest(inputs=tensors), LANE)
    return {tensor.name: to_array(tensor) for tensor in made}


async def refused(model: LoadedModel, **arrays: np.ndarray[Any, Any]) -> str:
    with pytest.raises(Problem) as raised:
        await ask(model, **arrays)
    assert raised.value.kind is ProblemType.INVALID_REQUEST, raised.value
    return raised.value.detail


class Two(torch.nn.Module):
    """Two inputs, one by keyword and one that may be missing, and three outputs of different types."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)

    def forward(self, tokens: torch.Tensor, none: None = None, *, scale: torch.Tensor) -> Any:
        found = self.table(tokens)
        return found.mean(1) * scale, (tokens.sum(1) > 3), found.bfloat16()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    args, kwargs = (torch.zeros(2, 3, dtype=torch.int64), None), {"scale": torch.ones(2, 1)}
    sizes = {"tokens": {0: SIZE, 1: SIZE}, "none": None, "scale": {0: SIZE}}
    return export(tmp_path_factory.mktemp("two"), Two(), args, sizes, kwargs)


async def test_a_program_names_its_tensors_with_types_and_free_dimensions(two: Path) -> None:
    model = load(two)
    assert model.signature.inputs == (spec("tokens", Datatype.INT64, -1, -1), spec("scale", Datatype.FP32, -1, 1))
    assert model.signature.outputs == (
        spec("output_0", Datatype.FP32, -1, 4),
        spec("output_1", Datatype.BOOL, -1),
        spec("output_2", Datatype.BF16, -1, -1, 4),
    )
    assert model.signature.rows
    tokens, scale = np.array([[1, 2, 9], [0, 0, 0]], np.int64), np.ones((2, 1), np.float32)
    made = await ask(model, tokens=tokens, scale=scale)
    expected = torch.export.load(two).module()(torch.from_numpy(tokens), None, scale=torch.from_numpy(scale))
    np.testing.assert_allclose(made["output_0"], expected[0].detach(), rtol=1e-6)
    np.testing.assert_array_equal(made["output_1"], [True, False])
    np.testing.assert_array_equal(made["output_2"], expected[2].detach().float())


async def test_the_configuration_may_rename_the_tensors(two: Path) -> None:
    names = spec("ids", Datatype.INT64, -1, -1), spec("factor", Datatype.FP32, -1, 1)
    model = load(two, inputs=names)
    made = await ask(model, ids=np.ones((1, 2), np.int64), factor=np.zeros((1, 1), np.float32))
    np.testing.assert_array_equal(made["output_0"], np.zeros((1, 4)))
    with pytest.raises(NotLoadableError, match=r"names 1 inputs, and the model has 2: tokens, scale"):
        load(two, inputs=names[:1])


async def test_what_does_not_fit_is_the_caller_s_fault_and_says_why(two: Path) -> None:
    tokens, scale = np.ones((2, 3), np.int64), np.ones((2, 1), np.float32)
    model = load(two)
    assert "index out of range" in await refused(model, tokens=tokens + 40, scale=scale)
    assert "scale.size()[0]" in await refused(model, tokens=tokens, scale=scale[:1])
    assert "the model takes INT64" in await refused(model, tokens=tokens.astype(np.int32), scale=scale)
    assert "the model takes [-1, -1]" in await refused(model, tokens=tokens[0], scale=scale)
    assert "'scale' is missing" in await refused(model, tokens=tokens)


class Even(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1] // 2, 2).sum(2)


async def test_conditions_on_sizes_are_kept(tmp_path: Path) -> None:
    rows = torch.export.Dim("rows", min=1, max=8)
    file = export(tmp_path, Even(), (torch.ones(4, 6),), {"x": {0: rows, 1: SIZE}})
    model = load(file)
    assert model.signature.most_rows == 8
    assert "exported for other sizes" in await refused(model, x=np.ones((2, 5), np.float32))
    # More rows than the program takes are several calls.
    np.testing.assert_array_equal((await ask(model, x=np.ones((20, 8), np.float32)))["output"], np.full((20, 4), 2))


async def test_a_module_gets_its_weights_from_safetensors(tmp_path: Path) -> None:
    weights = {"layer.weight": torch.arange(12.0).reshape(4, 3), "layer.bias": torch.zeros(4)}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "model.py").write_text(MODULE)
    file, allowed = tmp_path / "model.safetensors", FrameworkOptions(allow_code=True)
    named, parameters = (spec("x", Datatype.FP32, -1, 3),), {"arguments": {"width": 4}}
    with pytest.raises(NotLoadableError, match="SLUICE_ALLOW_MODEL_CODE=true"):
        load(file, inputs=named, parameters=parameters)
    with pytest.raises(NotLoadableError, match=r"must name the inputs .*name: x, datatype"):
        load(file, parameters=parameters, options=allowed)
    with pytest.raises(NotLoadableError, match="has other weights than the module"):
        load(file, inputs=named, options=allowed)
    model = load(file, inputs=named, parameters=parameters, options=allowed)
    made = await ask(model, x=np.array([[0, 1, 0]], np.float32))
    np.testing.assert_array_equal(made["y"], [[1, 4, 7, 10]])
    np.testing.assert_array_equal(made["kind"], [1])
    assert "the model takes FP32" in await refused(model, x=np.ones((1, 3)))
    model.close()


def test_a_folder_with_a_class_and_weights_is_a_python_class_unless_it_says_otherwise(tmp_path: Path) -> None:
    for name in ("model.py", "model.safetensors", "words.txt"):
        (tmp_path / name).touch()
    assert find_file(tmp_path, None, "")[0].name == "python"
    assert find_file(tmp_path, FRAMEWORKS["pytorch"], "")[1].name == "model.safetensors"


def test_weights_alone_say_what_they_need(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(NotLoadableError, match=r"put model\.py beside it"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta"])
def test_a_device_that_is_not_there_is_named(two: Path, device: str) -> None:
    with pytest.raises(NotLoadableError, match=device):
        load(two, parameters={"device": device})


class Large(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(LARGE // 4 // 1024, 1024))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weights


@pytest.mark.parametrize("kind", ["model.pt2", "model.safetensors"])
def test_a_model_that_is_closed_takes_no_memory_any_more(tmp_path: Path, kind: str) -> None:
    rows = torch.ones(1, LARGE // 4 // 1024)
    if kind == "model.pt2":
        export(tmp_path, Large(), (rows,), None)
    else:
        save_file(dict(Large().state_dict()), tmp_path / kind)
        (tmp_path / "model.py").write_text(
            f"import torch\nLARGE = {LARGE}\n\n\n{inspect.getsource(Large)}".replace("class Large", "class Model")
        )
    inputs = (spec("x", Datatype.FP32, -1, rows.shape[1]),) if kind == "model.safetensors" else ()
    gc.collect()
    gc.disable()
    try:
        before = resident()
        for _ in range(8):
            model = load(tmp_path / kind, inputs=inputs, options=FrameworkOptions(allow_code=True))
            model.predict({"x": rows.numpy()}, ("output",), {})
            model.close()
        assert resident() - before < 3 * LARGE
    finally:
        gc.enable()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_programs_are_loaded_at_once(two: Path) -> None:
    models = await asyncio.gather(*(asyncio.to_thread(load, two) for _ in range(4)))
    assert len({model.signature for model in models}) == 1
