"""Requests whose members are the tensors of a model by name, or parameters; and responses of the same form."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import to_json

from services.gateway.http.problems import invalid_member, invalid_request
from services.gateway.inference.codec import json_data
from services.gateway.inference.elements import nesting, pack_elements
from services.gateway.inference.models import InferBody, Parameters
from services.gateway.inference.requests import request_of, timeout_in
from shared.contracts.tensors import InferRequest, InferResponse, TensorSpec

__all__ = ["GenerateBody", "GenerateResponseBody", "decode_generate", "encode_generate"]


class GenerateBody(BaseModel):
    """A member with the name of one of the model's inputs is that input: its element, or a list of them. Any other is a
    parameter."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str, Field(max_length=1000)] = ""
    text_input: JsonValue = Field(None, description="The text to go on from: the input of `generate`.")
    parameters: Parameters = Field(
        {},
        description="For the model; for `generate` those of /v1/completions. `timeout`: microseconds that the request "
        "may take.",
    )

    @property
    def members(self) -> dict[str, JsonValue]:
        """What is neither `id` nor `parameters`; null is as good as nothing."""
        given = {"text_input": self.text_input, **(self.model_extra or {})}
        return {name: value for name, value in given.items() if value is not None}


class GenerateResponseBody(BaseModel):
    """A member for each of the model's outputs: its element, or the list of them. `generate` has `text_output`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model_name: str
    model_version: str
    id: str = ""
    text_output: JsonValue = None


def decode_generate(
    body: GenerateBody, inputs: Sequence[TensorSpec], longest: int
) -> tuple[InferRequest, float | None]:
    """The request to a model with these inputs, and the seconds that it may take.

    Raises Problem INVALID_REQUEST, or TOO_LARGE where the tensors have more than the longest bytes.
    """
    specs = {spec.name: spec for spec in inputs}
    parameters = dict(body.parameters)
    given: dict[str, list[Any]] = {}
    for name, value in body.members.items():
        if name in specs:
            given[name] = value if isinstance(value, list) else [value]
        elif name in parameters:
            raise invalid_member(name, "is among the `parameters` too")
        else:
            parameters[name] = value
    if not given:
        raise invalid_member("body", f"has none of the model's inputs, which are: {', '.join(specs)}")
    shapes = {name: _shape(specs[name], data) for name, data in given.items()}
    try:
        asked = InferBody.model_validate(
            {
                "id": body.id,
                "parameters": parameters,
                "inputs": [
                    {"name": name, "datatype": specs[name].datatype, "shape": shape} for name, shape in shapes.items()
                ],
            }
        )
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None
    elements = (_packed(specs[name], shapes[name], data) for name, data in given.items())
    return request_of(asked, elements, longest), timeout_in(parameters)


def encode_generate(response: InferResponse) -> bytes:
    """JSON in one line. Raises Problem INVALID_REQUEST for an output that JSON cannot hold."""
    head: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.id:
        head["id"] = response.id
    if response.parameters:
        head["parameters"] = response.parameters
    for tensor in response.outputs:
        data = json_data(tensor)
        head[tensor.name] = data[0] if len(data) == 1 else data
    return to_json(head)


def _shape(spec: TensorSpec, data: list[Any]) -> list[int]:
    """The shape of nested lists is theirs. Flat elements fill the model's fixed dimensions first, then its last free
    one; further free ones are 1. Of a model that names no dimensions, as a Python class, they are a list.

    Raises Problem INVALID_REQUEST where they do not fill them.
    """
    if not spec.shape or any(isinstance(element, list) for element in data):
        return nesting(data)
    left = len(data)
    fixed = math.prod(size for size in spec.shape if size >= 0)
    if fixed and left % fixed == 0:
        left //= fixed
    shape: list[int] = []
    for size in reversed(spec.shape):
        if size >= 0:
            shape.insert(0, size)
        else:
            shape.insert(0, left)
            left = 1
    if math.prod(shape) != len(data):
        raise invalid_member(spec.name, f"has {len(data):,} elements, and the model takes {list(spec.shape)}")
    return shape


def _packed(spec: TensorSpec, shape: Sequence[int], data: list[Any]) -> bytes:
    try:
        return pack_elements(data, spec.datatype, shape)
    except ValueError as error:
        raise invalid_member(spec.name, str(error)) from None
