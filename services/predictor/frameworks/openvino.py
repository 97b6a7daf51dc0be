"""Models of OpenVINO, in its intermediate representation."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import (
    Array,
    Arrays,
    FrameworkOptions,
    InvalidInputError,
    ModelFiles,
    NotLoadableError,
    Signature,
    package,
)
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["OpenvinoFramework", "OpenvinoModel"]

TYPES: Final = {
    "boolean": Datatype.BOOL,
    "u8": Datatype.UINT8,
    "u16": Datatype.UINT16,
    "u32": Datatype.UINT32,
    "u64": Datatype.UINT64,
    "i8": Datatype.INT8,
    "i16": Datatype.INT16,
    "i32": Datatype.INT32,
    "i64": Datatype.INT64,
    "f16": Datatype.FP16,
    "f32": Datatype.FP32,
    "f64": Datatype.FP64,
}


class OpenvinoFramework:
    """A model computes in float32 unless its configuration says otherwise: `parameters: {precision: bf16}`."""

    name = "openvino"
    platform = "openvino"
    files = ("model.xml", "*.xml")

    def prepare(self) -> None:
        package("openvino", "openvino", "OpenVINO")

    def load(self, files: ModelFiles, options: FrameworkOptions) -> "OpenvinoModel":
        import openvino

        core = openvino.Core()
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": str(files.parameters.get("precision") or "f32")}
        if options.threads:
            config["INFERENCE_NUM_THREADS"] = options.threads
        device = str(files.parameters.get("device") or "CPU")
        return OpenvinoModel(core.compile_model(core.read_model(str(files.file)), device, config))


class OpenvinoModel:
    """A compiled model with one request of its own. Requests may be joined where the first dimension of every tensor
    is free."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        inputs = tuple(_spec(port) for port in compiled.inputs)
        outputs = tuple(_spec(port) for port in compiled.outputs)
        rows = bool(inputs) and all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
        self.signature = Signature(inputs=inputs, outputs=outputs, rows=rows, most_rows=_largest(compiled.inputs))
        self._shapes = {spec.name: port.get_partial_shape() for spec, port in zip(inputs, compiled.inputs, strict=True)}
        self._order = [spec.name for spec in outputs]

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        for name, array in inputs.items():
            self._check(name, array)
        # Copies: the arrays of the request are those of its next inference.
        self._request.infer(dict(inputs))
        tensors = dict(zip(self._order, self._request.output_tensors, strict=True))
        return {name: np.array(tensors[name].data) for name in outputs}

    def close(self) -> None:
        self._request = None

    def _check(self, name: str, array: Array) -> None:
        """Sizes may have bounds, which the signature cannot say. Raises InvalidInputError."""
        from openvino import PartialShape

        if not self._shapes[name].compatible(PartialShape(list(array.shape))):
            raise InvalidInputError(
                f"the input '{name}' has the shape {list(array.shape)}; the model takes {self._shapes[name]}"
            )


def _largest(ports: Any) -> int | None:
    """The rows that all inputs may have; None where there is no bound."""
    shapes = [port.get_partial_shape() for port in ports]
    firsts = [shape[0].get_max_length() for shape in shapes if shape.rank.is_static and len(shape)]
    return min((size for size in firsts if size > 0), default=None)


def _spec(port: Any) -> TensorSpec:
    name = port.get_any_name() if port.get_names() else f"{port.get_node().get_friendly_name()}:{port.get_index()}"
    datatype = TYPES.get(port.get_element_type().get_type_name())
    if datatype is None:
        raise NotLoadableError(f"'{name}' is of {port.get_element_type()}, which the protocol has no datatype for")
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return TensorSpec(name=name, datatype=datatype, shape=())
    sizes = tuple(-1 if size.is_dynamic else int(size.get_length()) for size in shape)
    return TensorSpec(name=name, datatype=datatype, shape=sizes)
