"""Inferences as messages: elements raw, or typed by their datatype."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from services.gateway.http.problems import invalid_member, invalid_request
from services.gateway.inference.elements import pack_numbers
from services.gateway.inference.grpc.protocol.inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from services.gateway.inference.models import DIMENSIONS, MOST_TENSORS, InferBody
from services.gateway.inference.requests import check_size, request_of, timeout_in
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import (
    Datatype,
    InferRequest,
    InferResponse,
    Tensor,
    pack_bytes,
    unpack_bytes,
    unpack_numbers,
)

__all__ = ["DecodedInference", "decode_inference", "encode_inference", "read_parameters"]

CONTENTS: Final[Mapping[Datatype, str]] = {
    Datatype.BOOL: "bool_contents",
    **dict.fromkeys((Datatype.INT8, Datatype.INT16, Datatype.INT32), "int_contents"),
    Datatype.INT64: "int64_contents",
    **dict.fromkeys((Datatype.UINT8, Datatype.UINT16, Datatype.UINT32), "uint_contents"),
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}
"""The member of contents that holds elements of a datatype. FP16 and BF16 have none."""

MOST_PARAMETERS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedInference:
    """`raw` says how the elements of outputs are wanted; FP16 and BF16 have only the raw form. `timeout` is in
    seconds."""

    request: InferRequest
    raw: bool
    timeout: float | None


def decode_inference(message: ModelInferRequest, longest: int) -> DecodedInference:
    """Raises Problem INVALID_REQUEST, or TOO_LARGE where the tensors have more than the longest bytes.

    Outputs are wanted as the inputs came, unless the parameter `binary_data_output` says otherwise.
    """
    _check_counts(message)
    try:
        body = InferBody.model_validate(
            {
                "id": message.id,
                "parameters": read_parameters(message.parameters),
                "inputs": [
                    {
                        "name": tensor.name,
                        "datatype": tensor.datatype,
                        "shape": tensor.shape[: DIMENSIONS + 1],
                        "parameters": read_parameters(tensor.parameters),
                    }
                    for tensor in message.inputs
                ],
                "outputs": [
                    {"name": output.name, "parameters": read_parameters(output.parameters)}
                    for output in message.outputs
                ],
            }
        )
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None
    raw = bool(message.raw_input_contents)
    elements = _raw_elements(message, body) if raw else _typed_elements(message, body)
    return DecodedInference(
        request=request_of(body, elements, longest),
        raw=bool(body.parameters.get("binary_data_output", raw)),
        timeout=timeout_in(body.parameters),
    )


def encode_inference(response: InferResponse, *, raw: bool) -> ModelInferResponse:
    """Either all outputs are raw or none is."""
    message = ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    _write_parameters(message.parameters, response.parameters)
    raw = raw or any(tensor.datatype not in CONTENTS for tensor in response.outputs)
    for tensor in response.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
        _write_parameters(output.parameters, tensor.parameters)
        if raw:
            message.raw_output_contents.append(tensor.data)
        else:
            getattr(output.contents, CONTENTS[tensor.datatype]).extend(_elements(tensor))
    return message


def read_parameters(parameters: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The values of parameters; one without a value is left out. Raises Problem INVALID_REQUEST for too many."""
    if len(parameters) > MOST_PARAMETERS:
        detail = f"There are {len(parameters):,} parameters in one place, and {MOST_PARAMETERS:,} are allowed."
        raise Problem(ProblemType.INVALID_REQUEST, detail)
    chosen = ((name, value, value.WhichOneof("parameter_choice")) for name, value in parameters.items())
    return {name: getattr(value, choice) for name, value, choice in chosen if choice is not None}


def _check_counts(message: ModelInferRequest) -> None:
    """Before anything is made of them: a message of empty tensors is small, and what is made of each is not."""
    for member in ("inputs", "outputs"):
        if (count := len(getattr(message, member))) > MOST_TENSORS:
            raise invalid_member(member, f"has {count:,} tensors, and {MOST_TENSORS:,} are allowed")


def _raw_elements(message: ModelInferRequest, body: InferBody) -> Iterator[bytes]:
    if len(message.raw_input_contents) != len(body.inputs):
        detail = f"raw_input_contents has {len(message.raw_input_contents):,} tensors, and inputs {len(body.inputs):,}."
        raise Problem(ProblemType.INVALID_REQUEST, detail)
    for index, (given, data) in enumerate(zip(body.inputs, message.raw_input_contents, strict=True)):
        if message.inputs[index].HasField("contents"):
            raise invalid_member(f"inputs[{index}].contents", "is set beside raw_input_contents")
        check_size(f"raw_input_contents[{index}]", given, data)
        yield data


def _typed_elements(message: ModelInferRequest, body: InferBody) -> Iterator[bytes]:
    for index, (given, tensor) in enumerate(zip(body.inputs, message.inputs, strict=True)):
        path = f"inputs[{index}].contents"
        try:
            data = _packed(tensor.contents, given.datatype)
        except (ValueError, TypeError, OverflowError) as error:
            raise invalid_member(path, str(error)) from None
        check_size(path, given, data)
        yield data


def _packed(contents: InferTensorContents, datatype: Datatype) -> bytes:
    """Raises ValueError, TypeError or OverflowError, which say what is wrong."""
    member = CONTENTS.get(datatype)
    if member is None:
        raise ValueError(f"{datatype} has no typed form: send it in raw_input_contents")
    if other := [field.name for field, _ in contents.ListFields() if field.name != member]:
        raise ValueError(f"elements of {datatype} belong into {member}, not {other[0]}")
    elements: Iterable[Any] = getattr(contents, member)
    if datatype is Datatype.BYTES:
        return pack_bytes(elements)
    if datatype is Datatype.BOOL:
        return bytes(elements)
    try:
        return pack_numbers(elements, datatype)
    except OverflowError:
        raise ValueError(f"has an element that is not of {datatype}") from None


def _elements(tensor: Tensor) -> Iterable[Any]:
    if tensor.datatype is Datatype.BYTES:
        return unpack_bytes(tensor.data)
    if tensor.datatype is Datatype.BOOL:
        return (byte != 0 for byte in tensor.data)
    return unpack_numbers(tensor.data, tensor.datatype)


def _write_parameters(written: Any, parameters: Mapping[str, JsonValue]) -> None:
    """What is no text, number or truth value is JSON; what is None is left out."""
    for name, value in parameters.items():
        if value is None:
            continue
        parameter = written[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            parameter.int64_param = value
        elif isinstance(value, int) and 0 <= value < 2**64:
            parameter.uint64_param = value
        elif isinstance(value, int | float):
            parameter.double_param = value
        else:
            parameter.string_param = value if isinstance(value, str) else json.dumps(value)
