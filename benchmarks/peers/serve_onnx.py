"""What every peer runs: one ONNX model, on its rows of four numbers."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

__all__ = ["Model", "name_of", "outputs_of", "rows_of"]


def rows_of(request: dict[str, Any]) -> Any:
    """The rows of a request of the Open Inference Protocol, as a peer that has no reader of its own takes it."""
    (tensor,) = request["inputs"]
    return np.asarray(tensor["data"], np.float32).reshape(tensor["shape"])


def outputs_of(found: Any) -> dict[str, Any]:
    return {"name": "predict", "datatype": "FP32", "shape": list(found.shape), "data": found.ravel().tolist()}


def name_of() -> str:
    return "small"


class Model:
    """ONNX Runtime with its own defaults, as Sluice uses it."""

    def __init__(self) -> None:
        path = Path(os.environ["MODEL_FOLDER"]) / name_of() / "1" / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, rows: Any) -> Any:
        return self._session.run(None, {"input": rows})[0]
