"""One model of each framework, trained in milliseconds on the same rows, with what its own library predicts."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["COLUMNS", "ROWS", "TRAINERS", "Rows"]

Rows = npt.NDArray[np.float32]

COLUMNS: Final = 4
RANDOM: Final = np.random.default_rng(7)
ROWS: Final[Rows] = RANDOM.normal(size=(60, COLUMNS)).astype(np.float32)
LABELS: Final = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(np.int64)

Predict = Callable[[Rows], npt.NDArray[Any]]

PYTHON: Final = """
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Model:
    def load(self, folder: Path) -> None:
        self.weights = np.load(folder / "weights.npy")

    def predict(self, input: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {"predict": input @ self.weights}
"""


def train_sklearn(folder: Path) -> Predict:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(ROWS, LABELS)
    skops.io.dump(model, folder / "model.skops")
    return lambda rows: model.predict(rows)


def train_xgboost(folder: Path) -> Predict:
    import xgboost

    model = xgboost.train({"objective": "binary:logistic", "max_depth": 2}, xgboost.DMatrix(ROWS, LABELS), 3)
    model.save_model(folder / "model.ubj")
    return lambda rows: model.inplace_predict(rows)


def train_lightgbm(folder: Path) -> Predict:
    import lightgbm

    options = {"objective": "binary", "min_data_in_leaf": 2, "verbose": -1, "num_threads": 1}
    model = lightgbm.train(options, lightgbm.Dataset(ROWS, LABELS), 3)
    model.save_model(folder / "model.txt")
    return lambda rows: np.asarray(model.predict(rows))


def train_onnx(folder: Path) -> Predict:
    from onnx import TensorProto, helper

    from tests.harness.models import write_graph

    weights = RANDOM.normal(size=(COLUMNS, 2)).astype(np.float32)
    write_graph(
        folder,
        [helper.make_node("MatMul", ["input", "weights"], ["predict"])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", COLUMNS])],
        [helper.make_tensor_value_info("predict", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    return lambda rows: rows @ weights


def train_openvino(folder: Path) -> Predict:
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from openvino import opset13

    weights = RANDOM.normal(size=(COLUMNS, 2)).astype(np.float32)
    rows = opset13.parameter([-1, COLUMNS], np.float32, name="input")
    product = opset13.matmul(rows, opset13.constant(weights), False, False)
    rows.output(0).set_names({"input"})
    product.output(0).set_names({"predict"})
    openvino.save_model(openvino.Model([product], [rows], "model"), folder / "model.xml", compress_to_fp16=False)
    return lambda rows: rows @ weights


def train_python(folder: Path) -> Predict:
    weights = RANDOM.normal(size=(COLUMNS,)).astype(np.float32)
    (folder / "model.py").write_text(PYTHON)
    np.save(folder / "weights.npy", weights)
    return lambda rows: rows @ weights


def train_pytorch(folder: Path) -> Predict:
    import torch

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(COLUMNS, 2)

        def forward(self, input: torch.Tensor) -> dict[str, torch.Tensor]:  # noqa: A002  (the input's name)
            return {"predict": self.layer(input)}

    module = Layer().eval()
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(module, (torch.zeros(2, COLUMNS),), dynamic_shapes={"input": {0: rows}})
    torch.export.save(program, folder / "model.pt2")
    return lambda rows: module(torch.from_numpy(rows))["predict"].detach().numpy()


TRAINERS: Final[Mapping[str, Callable[[Path], Predict]]] = {
    "onnx": train_onnx,
    "openvino": train_openvino,
    "sklearn": train_sklearn,
    "xgboost": train_xgboost,
    "lightgbm": train_lightgbm,
    "python": train_python,
    "pytorch": train_pytorch,
}
"""By framework. Each takes `input`, rows of so many columns of FP32, and gives `predict`."""
