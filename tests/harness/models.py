"""Small models for a model repository, made in milliseconds."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

__all__ = ["write_doubler", "write_echo", "write_graph", "write_large"]

OPSET = 17


def write_doubler(folder: Path, *, factor: float = 2.0, columns: int = 3) -> None:
    """`model.onnx`: `y` is `x` times the factor, any number of rows of FP32."""
    weights = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    write_graph(
        folder,
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", columns])],
        [weights],
    )


def write_echo(folder: Path, types: dict[str, int]) -> None:
    """`model.onnx`: for each name of an element type an input, and an output `<name>_out` of the same elements."""
    write_graph(
        folder,
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in types],
        [helper.make_tensor_value_info(name, type_, ["rows", "columns"]) for name, type_ in types.items()],
        [helper.make_tensor_value_info(f"{name}_out", type_, ["rows", "columns"]) for name, type_ in types.items()],
        [],
    )


def write_large(folder: Path, *, megabytes: int) -> None:
    """`model.onnx`: a model of about this size; `y` is the row of its weights that `x`, of INT64, names."""
    weights = np.arange(megabytes * 2**20 // 4, dtype=np.float32).reshape(-1, 64)
    write_graph(
        folder,
        [helper.make_node("Gather", ["weights", "x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 64])],
        [helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )


def write_graph(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> None:
    """`model.onnx`: this graph."""
    graph = helper.make_graph(nodes, "model", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
