"""Tensors, and the requests and responses that are made of them, as the Open Inference Protocol has them.

Tensors that are too large for a message are an object in the store `tensors` (`shared/stores/tensors.py`).
"""

import math
import struct
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, JsonValue, PlainSerializer

from shared.contracts.wire import Wire

__all__ = [
    "CODES",
    "Datatype",
    "InferRequest",
    "InferResponse",
    "InferenceOutcome",
    "ModelMetadata",
    "ModelState",
    "RequestedOutput",
    "Tensor",
    "TensorSpec",
    "element_count",
    "pack_bytes",
    "unpack_bytes",
    "unpack_numbers",
]

LENGTH: Final = struct.Struct("<I")


class Datatype(StrEnum):
    """What the elements of a tensor are."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def size(self) -> int:
        """Bytes of an element; 0 for BYTES, whose elements differ."""
        return SIZES[self]


SIZES: Final = {
    Datatype.BOOL: 1,
    Datatype.UINT8: 1,
    Datatype.UINT16: 2,
    Datatype.UINT32: 4,
    Datatype.UINT64: 8,
    Datatype.INT8: 1,
    Datatype.INT16: 2,
    Datatype.INT32: 4,
    Datatype.INT64: 8,
    Datatype.FP16: 2,
    Datatype.BF16: 2,
    Datatype.FP32: 4,
    Datatype.FP64: 8,
    Datatype.BYTES: 0,
}


CODES: Final = {
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
    Datatype.FP32: "f",
    Datatype.FP64: "d",
}
"""How arrays name the numbers of a datatype. They have no name for FP16 and BF16."""


def _decoded(value: object) -> object:
    return b64decode(value, validate=True) if isinstance(value, str) else value


Packed = Annotated[
    bytes,
    BeforeValidator(_decoded),
    PlainSerializer(lambda data: b64encode(data).decode(), return_type=str, when_used="json"),
]
"""Bytes; base64 wherever they are JSON, also within params."""


class Tensor(Wire):
    """`data` are the elements in row-major order, little-endian, without padding. An element of BYTES is its length as
    a uint32 and its bytes; of BOOL, a byte. `size` is how many bytes of a stored object are the tensor's."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    data: Packed = b""
    size: int | None = None

    @property
    def elements(self) -> int:
        return element_count(self.shape)


class RequestedOutput(Wire):
    name: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class InferRequest(Wire):
    """Without `outputs` all of the model's are wanted. `stored` is the object with the data of the inputs, one after
    another, where they are not in the message."""

    id: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[RequestedOutput, ...] = ()
    stored: str | None = None


class InferResponse(Wire):
    """`stored` is as in a request, for the outputs."""

    model: str
    version: str = ""
    id: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    outputs: tuple[Tensor, ...] = ()
    stored: str | None = None


class TensorSpec(Wire):
    """A tensor that a model takes or gives. A dimension of -1 may have any length."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class ModelMetadata(Wire):
    """`versions` are those that are served, the newest first."""

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class ModelState(Wire):
    """Whether a version of a model answers requests: `ready`, and whether it is in the memory of the predictor that
    says so. `reason` says why it is not ready."""

    name: str
    version: str = ""
    ready: bool = True
    loaded: bool = False
    reason: str = ""

    def shortened(self, length: int | None) -> Self:
        """With a reason of at most so many characters."""
        if length is None or len(self.reason) <= length:
            return self
        return self.model_copy(update={"reason": self.reason[: length - 1] + "…"})


class InferenceOutcome(Wire):
    """The answer of the stage `predict` to a call, by its verb."""

    response: InferResponse | None = None
    metadata: ModelMetadata | None = None
    states: tuple[ModelState, ...] = ()


def element_count(shape: Sequence[int]) -> int:
    return math.prod(shape)


def pack_bytes(elements: Iterable[bytes]) -> bytes:
    """The data of a BYTES tensor."""
    parts: list[bytes] = []
    for element in elements:
        parts += (LENGTH.pack(len(element)), element)
    return b"".join(parts)


def unpack_bytes(data: bytes) -> Iterator[bytes]:
    """The elements of a BYTES tensor. Raises ValueError where the data ends within one."""
    at = 0
    while at < len(data):
        if at + LENGTH.size > len(data):
            raise ValueError("the data ends within the length of an element")
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if at + length > len(data):
            raise ValueError("the data ends within an element")
        yield data[at : at + length]
        at += length


def unpack_numbers(data: bytes, datatype: Datatype) -> list[Any]:
    """The numbers in a packed form, of any type but BF16."""
    if datatype is Datatype.FP16:
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    numbers = array(CODES[datatype])
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
