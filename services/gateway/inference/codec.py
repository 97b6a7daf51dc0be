"""Bodies of inferences: JSON, and with the binary tensor data extension JSON and what follows it."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from services.gateway.http.problems import invalid_member, invalid_request
from services.gateway.inference.elements import pack_elements, unpack_elements
from services.gateway.inference.models import InferBody, RequestInput
from services.gateway.inference.requests import BINARY_SIZE, check_size, request_of, timeout_in
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferRequest, InferResponse, Tensor

__all__ = [
    "JSON_LENGTH",
    "MOST_JSON",
    "DecodedRequest",
    "decode_request",
    "decompressed",
    "encode_response",
    "json_data",
    "off_the_loop",
]

JSON_LENGTH: Final = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON."""

MOST_JSON: Final = 8 * 2**20
"""Bytes of JSON in a request. Parsing takes up to a hundred times as many in memory, and no other request is answered
meanwhile."""

SMALL: Final = 64 * 1024
"""Bytes that are decoded, or encoded, within a few milliseconds."""

AT_ONCE: Final = 2
"""Bodies that are not small, and are decoded or encoded at once."""

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

WINDOWS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedRequest:
    """`binary` are the outputs that are wanted behind the JSON, or all where `all_binary`. `timeout` is in seconds."""

    request: InferRequest
    binary: Mapping[str, bool]
    all_binary: bool
    timeout: float | None

    def is_binary(self, output: str) -> bool:
        return self.binary.get(output, self.all_binary)


def decode_request(body: bytes, json_length: str | None, longest: int) -> DecodedRequest:
    """Raises Problem INVALID_REQUEST, or TOO_LARGE where the tensors have more than the longest bytes."""
    length = _json_length(json_length, len(body))
    if length > MOST_JSON:
        detail = (
            f"The request has {length:,} bytes of JSON, and {MOST_JSON:,} are allowed. Send its tensors binary, behind "
            f"the JSON, with the parameter {BINARY_SIZE}."
        )
        raise Problem(ProblemType.TOO_LARGE, detail, limit=MOST_JSON)
    try:
        parsed = InferBody.model_validate_json(body[:length])
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None
    return DecodedRequest(
        request=request_of(parsed, _elements(parsed.inputs, memoryview(body)[length:]), longest),
        binary={
            each.name: each.parameters["binary_data"] is True
            for each in parsed.outputs
            if "binary_data" in each.parameters
        },
        all_binary=parsed.parameters.get("binary_data_output") is True,
        timeout=timeout_in(parsed.parameters),
    )


async def off_the_loop(size: int, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """What `work` returns. It runs in a thread where it has to do with so many bytes that others would wait."""
    if size <= SMALL:
        return work(*arguments)
    async with _room():
        return await to_thread.run_sync(work, *arguments)


def encode_response(response: InferResponse, decoded: DecodedRequest) -> Response:
    """Raises Problem INVALID_REQUEST for an output that JSON cannot hold."""
    behind: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for tensor in response.outputs:
        written: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if decoded.is_binary(tensor.name):
            written["parameters"] = {BINARY_SIZE: len(tensor.data)}
            behind.append(tensor.data)
        else:
            written["data"] = json_data(tensor)
        outputs.append(written)
    named = {"id": response.id} if response.id else {}
    parameters = {"parameters": response.parameters} if response.parameters else {}
    head = to_json(
        {"model_name": response.model, "model_version": response.version, **named, **parameters, "outputs": outputs}
    )
    if not behind:
        return Response(head, media_type="application/json")
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Response(b"".join((head, *behind)), headers=headers, media_type="application/octet-stream")


@cache
def _room() -> CapacityLimiter:
    """Threads take turns computing: more of them at once would only need more memory."""
    return CapacityLimiter(AT_ONCE)


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """A body as it was before its content encoding. Raises Problem INVALID_REQUEST or TOO_LARGE."""
    if encoding in ("", "identity"):
        return body
    if encoding not in WINDOWS:
        raise Problem(ProblemType.INVALID_REQUEST, f"Content-Encoding may be gzip or deflate, not {encoding[:40]!r}.")
    reader = zlib.decompressobj(WINDOWS[encoding])
    try:
        plain = reader.decompress(body, limit + 1)
    except zlib.error:
        raise Problem(ProblemType.INVALID_REQUEST, f"The body is not {encoding}.") from None
    if len(plain) > limit:
        raise Problem(ProblemType.TOO_LARGE, f"The body has more than the {limit:,} bytes allowed here.", limit=limit)
    if not reader.eof or reader.unused_data:
        raise Problem(ProblemType.INVALID_REQUEST, f"The body is not {encoding}.")
    return plain


def _json_length(header: str | None, length: int) -> int:
    if header is None:
        return length
    if not header.isdecimal() or len(header) > 12 or int(header) > length:
        detail = f"Inference-Header-Content-Length is {header[:40]!r}, and the body has {length:,} bytes."
        raise Problem(ProblemType.INVALID_REQUEST, detail)
    return int(header)


def _elements(inputs: Sequence[RequestInput], behind: memoryview) -> Iterator[bytes]:
    """The packed elements of each input."""
    at = 0
    for index, given in enumerate(inputs):
        path = f"inputs[{index}]"
        size = given.parameters.get(BINARY_SIZE)
        if size is None:
            yield _json_elements(path, given)
            continue
        if type(size) is not int or size < 0 or at + size > len(behind):
            message = f"is {str(size)[:20]}, and {len(behind) - at:,} bytes are left behind the JSON"
            raise invalid_member(f"{path}.parameters.{BINARY_SIZE}", message)
        data, at = bytes(behind[at : at + size]), at + size
        check_size(path, given, data)
        yield data
    if at != len(behind):
        detail = f"The body has {len(behind) - at:,} bytes behind the JSON that are of no input."
        raise Problem(ProblemType.INVALID_REQUEST, detail)


def _json_elements(path: str, given: RequestInput) -> bytes:
    if given.data is None:
        raise invalid_member(path, f"has neither `data` nor the parameter `{BINARY_SIZE}`")
    try:
        return pack_elements(given.data, given.datatype, given.shape)
    except ValueError as error:
        raise invalid_member(f"{path}.data", str(error)) from None


def json_data(tensor: Tensor) -> list[Any]:
    """The elements of an output, flat. Raises Problem INVALID_REQUEST where JSON cannot hold them."""
    try:
        return unpack_elements(tensor.data, tensor.datatype)
    except ValueError as error:
        raise Problem(ProblemType.INVALID_REQUEST, f"The output '{tensor.name}' {error}.") from None
