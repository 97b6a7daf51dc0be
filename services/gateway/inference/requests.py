"""Inference requests, from their parsed form and the packed elements of their inputs, whatever they came over."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from services.gateway.http.problems import invalid_member
from services.gateway.inference.models import InferBody, RequestInput
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferRequest, RequestedOutput, Tensor, element_count, unpack_bytes

__all__ = ["BINARY_SIZE", "check_size", "request_of", "timeout_in"]

BINARY_SIZE: Final = "binary_data_size"
UNSUPPORTED: Final = ("shared_memory_region", "classification", "sequence_id")
"""Parameters of Triton's that change what a request means."""

OURS: Final = (BINARY_SIZE, "binary_data", "binary_data_output", "timeout", "priority", "headers")
"""Parameters that a model is not told."""


def request_of(body: InferBody, elements: Iterable[bytes], longest: int) -> InferRequest:
    """The request with the packed `elements` of each input.

    Raises Problem INVALID_REQUEST, or TOO_LARGE where the tensors have more than the longest bytes.
    """
    _check_supported(body)
    inputs = tuple(
        Tensor(
            name=given.name,
            datatype=given.datatype,
            shape=tuple(given.shape),
            parameters=_for_model(given.parameters),
            data=data,
        )
        for given, data in zip(body.inputs, elements, strict=True)
    )
    size = sum(len(tensor.data) for tensor in inputs)
    if size > longest:
        detail = f"The tensors have {size:,} bytes, and {longest:,} are allowed here (SLUICE_MAX_TENSOR_BYTES)."
        raise Problem(ProblemType.TOO_LARGE, detail, limit=longest)
    return InferRequest(
        id=body.id,
        parameters=_for_model(body.parameters),
        inputs=inputs,
        outputs=tuple(RequestedOutput(name=each.name) for each in body.outputs),
    )


def check_size(path: str, given: RequestInput, data: bytes) -> None:
    """Raises Problem INVALID_REQUEST where packed elements are not as many as the shape has."""
    elements = element_count(given.shape)
    if given.datatype is Datatype.BYTES:
        try:
            found = sum(1 for _ in unpack_bytes(data))
        except ValueError as error:
            raise invalid_member(path, str(error)) from None
        if found != elements:
            raise invalid_member(path, f"has {found:,} elements, and its shape has {elements:,}")
    elif len(data) != elements * given.datatype.size:
        message = f"has {len(data):,} bytes, and {elements:,} elements of {given.datatype} have other"
        raise invalid_member(path, message)


def timeout_in(parameters: Mapping[str, Any]) -> float | None:
    """The seconds that a request names. Raises Problem INVALID_REQUEST."""
    timeout = parameters.get("timeout")
    if timeout in (None, 0):
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise invalid_member("parameters.timeout", "is not a number of microseconds")
    try:
        return timeout / 1e6
    except OverflowError:
        raise invalid_member("parameters.timeout", "is too large") from None


def _check_supported(body: InferBody) -> None:
    given: list[tuple[str, Mapping[str, Any]]] = [("parameters", body.parameters)]
    given += _of_each("inputs", [each.parameters for each in body.inputs])
    given += _of_each("outputs", [each.parameters for each in body.outputs])
    for path, parameters in given:
        for name in UNSUPPORTED:
            # Clients send a sequence of 0 where they mean none.
            if parameters.get(name) not in (None, 0, ""):
                raise invalid_member(f"{path}.{name}", "is of an extension that is not served here")


def _of_each(member: str, parameters: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"{member}[{index}].parameters", each) for index, each in enumerate(parameters)]


def _for_model(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in (*OURS, *UNSUPPORTED)}
