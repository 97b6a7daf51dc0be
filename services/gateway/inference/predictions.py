"""KServe's version 1: rows as JSON, for whose tensors the model's metadata are needed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from services.gateway.http.problems import invalid_member
from services.gateway.inference.codec import json_data
from services.gateway.inference.elements import nesting, pack_elements
from services.gateway.inference.models import PredictBody
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferRequest, InferResponse, ModelMetadata, Tensor, TensorSpec

__all__ = ["predictions_of", "request_of"]


def request_of(body: PredictBody, metadata: ModelMetadata, longest: int) -> InferRequest:
    """Raises Problem INVALID_REQUEST where the rows do not fit the model, or TOO_LARGE."""
    inputs = tuple(_tensor(spec, _column(body.instances, spec, metadata.inputs)) for spec in metadata.inputs)
    size = sum(len(tensor.data) for tensor in inputs)
    if size > longest:
        detail = f"The rows have {size:,} bytes, and {longest:,} are allowed here (SLUICE_MAX_TENSOR_BYTES)."
        raise Problem(ProblemType.TOO_LARGE, detail, limit=longest)
    return InferRequest(inputs=inputs)


def predictions_of(response: InferResponse) -> list[Any]:
    """One for each row: the output's elements, or an object with a member for each output. Raises Problem
    INVALID_REQUEST for an output that JSON cannot hold."""
    columns: dict[str, list[Any]] = {}
    for tensor in response.outputs:
        columns[tensor.name] = _nested(json_data(tensor), tensor.shape)
    if len(columns) == 1:
        return next(iter(columns.values()))
    rows = min((len(column) for column in columns.values()), default=0)
    return [{name: column[row] for name, column in columns.items()} for row in range(rows)]


def _column(instances: Sequence[Any], spec: TensorSpec, specs: Sequence[TensorSpec]) -> list[Any]:
    """What the rows have for one input."""
    if all(isinstance(instance, Mapping) for instance in instances):
        for row, instance in enumerate(instances):
            if spec.name not in instance:
                raise invalid_member(
                    f"instances[{row}]", f"has no member {spec.name!r}, which is an input of the model"
                )
        return [instance[spec.name] for instance in instances]
    if len(specs) != 1:
        names = ", ".join(each.name for each in specs)
        raise invalid_member("instances", f"the model takes several inputs: send objects with the members {names}")
    return list(instances)


def _tensor(spec: TensorSpec, rows: list[Any]) -> Tensor:
    datatype = spec.datatype
    shape = tuple(nesting(rows))
    try:
        data = pack_elements(rows, datatype, shape)
    except ValueError as error:
        raise invalid_member("instances", f"for the input {spec.name!r}: {error}") from None
    return Tensor(name=spec.name, datatype=datatype, shape=shape, data=data)


def _nested(elements: list[Any], shape: Sequence[int]) -> list[Any]:
    if len(shape) <= 1:
        return elements
    size = math.prod(shape[1:])
    return [_nested(elements[start : start + size], shape[1:]) for start in range(0, shape[0] * size, size or 1)]
