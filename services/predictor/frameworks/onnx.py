"""ONNX models, run by ONNX Runtime."""

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import (
    Arrays,
    FrameworkOptions,
    ModelFiles,
    NotLoadableError,
    Signature,
    package,
    refusing,
)
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["OnnxFramework", "OnnxModel"]

TYPES: Final = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}


class OnnxFramework:
    name = "onnx"
    platform = "onnx_onnxv1"
    files = ("model.onnx", "*.onnx")

    def prepare(self) -> None:
        runtime = package("onnxruntime", "onnxruntime", "ONNX")
        runtime.set_default_logger_severity(3)  # errors; warnings about a graph are nobody's business here

    def load(self, files: ModelFiles, options: FrameworkOptions) -> "OnnxModel":
        import onnxruntime

        chosen = onnxruntime.SessionOptions()
        chosen.intra_op_num_threads = options.threads or os.cpu_count() or 1
        chosen.inter_op_num_threads = 1
        # Threads of dozens of loaded models must not keep the CPUs busy while they have nothing to do.
        chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = files.parameters.get("providers") or ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(str(files.file), sess_options=chosen, providers=providers)
        return OnnxModel(session)


class OnnxModel:
    """A session. Requests may be joined where the first dimension of every tensor is free."""

    def __init__(self, session: Any) -> None:
        self._session = session
        inputs = tuple(_spec(node) for node in session.get_inputs())
        outputs = tuple(_spec(node) for node in session.get_outputs())
        rows = bool(inputs) and all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
        self.signature = Signature(inputs=inputs, outputs=outputs, rows=rows)

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        fed = {name: _texts(array) if array.dtype.kind == "O" else array for name, array in inputs.items()}
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        with refusing(InvalidArgument):
            made = self._session.run(list(outputs), fed)
        return dict(zip(outputs, map(np.asarray, made), strict=True))

    def close(self) -> None:
        self._session = None


def _spec(node: Any) -> TensorSpec:
    datatype = TYPES.get(node.type)
    if datatype is None:
        raise NotLoadableError(f"'{node.name}' is a {node.type}, which the protocol has no datatype for")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape or ())
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)


def _texts(array: Any) -> Any:
    """ONNX Runtime takes texts, not bytes."""
    texts = np.empty(array.shape, dtype=object)
    texts.reshape(-1)[:] = [element.decode("utf-8", "replace") for element in array.reshape(-1).tolist()]
    return texts
