"""Inputs that a framework itself refuses are the caller's fault, and say why; other errors are the model's."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.predictor.frameworks.base import FrameworkOptions, ModelFiles
from services.predictor.frameworks.registry import find_file
from services.predictor.serving.arrays import to_tensor
from services.predictor.serving.served_model import ModelLimits, ServedModel
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferRequest
from tests.harness.models import write_large
from tests.harness.trained_models import COLUMNS, TRAINERS

pytestmark = pytest.mark.anyio

TEXTS = np.array([[b"a"] * COLUMNS], dtype=object)
NOT_A_NUMBER = np.full((1, COLUMNS), np.nan, np.float32)

PYTHON = """
import numpy as np
from numpy.typing import NDArray


class InvalidInput(Exception):
    status_code = 400


class Model:
    def load(self, folder): ...

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if x.shape[0] > 2:
            raise InvalidInput("two rows at most")
        return self.missing
"""


def write_bounded(folder: Path) -> None:
    """Takes from one to three rows."""
    import openvino
    from openvino import opset13

    rows = opset13.parameter(openvino.PartialShape([openvino.Dimension(1, 3), COLUMNS]), np.float32, name="input")
    columns = opset13.parameter(openvino.PartialShape([-1, openvino.Dimension(1, 2)]), np.float32, name="more")
    rows.output(0).set_names({"input"})
    columns.output(0).set_names({"more"})
    model = openvino.Model([opset13.relu(rows), opset13.relu(columns)], [rows, columns], "model")
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def write_texts(folder: Path) -> None:
    import skops.io
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good day", "bad day"], [1, 0])
    skops.io.dump(model, folder / "model.skops")


def write_python(folder: Path) -> None:
    (folder / "model.py").write_text(PYTHON)


CASES: dict[str, tuple[Callable[[Path], object], dict[str, npt.NDArray[Any]], str]] = {
    "NaN for scikit-learn": (TRAINERS["sklearn"], {"input": NOT_A_NUMBER}, "contains NaN"),
    "texts for a table of scikit-learn": (TRAINERS["sklearn"], {"input": TEXTS}, "could not convert string to float"),
    "numbers for texts of scikit-learn": (write_texts, {"input": np.ones((2,), np.float32)}, "lower"),
    "texts for XGBoost": (TRAINERS["xgboost"], {"input": TEXTS}, "takes numbers, not BYTES"),
    "texts for LightGBM": (TRAINERS["lightgbm"], {"input": TEXTS}, "takes numbers, not BYTES"),
    "a row that ONNX's weights do not have": (
        lambda folder: write_large(folder, megabytes=1),
        {"x": np.array([10**6], np.int64)},
        "out of data bounds",
    ),
    "sizes beyond OpenVINO's bounds": (
        write_bounded,
        {"input": np.ones((1, COLUMNS), np.float32), "more": np.ones((1, 3), np.float32)},
        "the model takes [?,1..2]",
    ),
    "what a Python class refuses": (write_python, {"x": np.ones((3, 1), np.float32)}, "two rows at most"),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_a_framework_refuses_is_the_caller_s_fault(tmp_path: Path, case: str) -> None:
    write, arrays, said = CASES[case]
    problem = await failure(tmp_path, write, arrays)
    assert problem.kind is ProblemType.INVALID_REQUEST, problem
    assert "does not take this input" in problem.detail
    assert said in problem.detail


async def test_more_rows_than_openvino_s_bound_are_several_calls(tmp_path: Path) -> None:
    write_bounded(tmp_path)
    framework, file = find_file(tmp_path, None, "")
    model = framework.load(ModelFiles(name="m", version="1", folder=tmp_path, file=file), FrameworkOptions(threads=1))
    assert model.signature.most_rows == 3
    with ThreadPoolExecutor(1) as threads:
        async with ServedModel("m", model, ModelLimits(batch_rows=32, waiting=10), threads).running() as served:
            tensors = (to_tensor("input", np.ones((7, COLUMNS), np.float32)), to_tensor("more", np.ones((7, 2), "f4")))
            made = await served.infer(InferRequest(inputs=tensors), Lane.INTERACTIVE)
    assert [tensor.shape for tensor in made] == [(7, COLUMNS), (7, 2)]


async def test_other_errors_are_the_model_s(tmp_path: Path) -> None:
    problem = await failure(tmp_path, write_python, {"x": np.ones((1, 1), np.float32)})
    assert problem.kind is ProblemType.MODEL_FAILED
    assert "has no attribute 'missing'" in problem.detail


async def failure(
    folder: Path, write: Callable[[Path], object], arrays: dict[str, npt.NDArray[Any]], rows: int = 32
) -> Problem:
    write(folder)
    framework, file = find_file(folder, None, "")
    framework.prepare()
    model = framework.load(
        ModelFiles(name="m", version="1", folder=folder, file=file), FrameworkOptions(threads=1, allow_code=True)
    )
    with ThreadPoolExecutor(1) as threads:
        served = ServedModel("m", model, ModelLimits(batch_rows=rows, waiting=10), threads)
        async with served.running():
            tensors = tuple(to_tensor(name, array) for name, array in arrays.items())
            with pytest.raises(Problem) as raised:
                await served.infer(InferRequest(inputs=tensors), Lane.INTERACTIVE)
        await served.close()
    return raised.value
