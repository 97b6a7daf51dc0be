"""A payload as JSON: an inference in the form of the Open Inference Protocol, cut to what is kept of it."""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue
from pydantic_core import to_json

from services.gateway.inference.elements import unpack_elements
from shared.contracts.tensors import Datatype, InferRequest, InferResponse, Tensor, pack_bytes, unpack_bytes

__all__ = ["LARGEST", "clipped", "payload_json"]

LARGEST: Final = 768 * 1024
"""Bytes of JSON; the broker takes messages of 1 MiB."""

LONGEST_TEXT: Final = 256 * 1024
"""Bytes of an element that a redactor is given. Of a longer one nothing is kept where there is a redactor: half of an
address at the end of a text would not be known as one."""

Redact = Callable[[str], str]
Inference = InferRequest | InferResponse


def clipped(tensors: Sequence[Tensor], room: int, *, redacted: bool) -> tuple[Tensor, ...]:
    """The tensors with the first elements that `room` bytes hold in all; the last text for a redactor is whole."""
    kept: list[Tensor] = []
    for tensor in tensors:
        data = _clip(tensor, room, whole=redacted)
        kept.append(tensor if len(data) == len(tensor.data) else tensor.model_copy(update={"data": data}))
        room = max(0, room - len(data))
    return tuple(kept)


def payload_json(
    inference: Inference, room: int, redact: Redact | None, *, elements: bool = True
) -> tuple[bytes, bool]:
    """The JSON, and whether it holds all that the inference has, which may be clipped.

    Without `elements` it has names, types and shapes alone. Raises what `redact` raises.
    """
    writer = _Writer(room, redact, elements=elements)
    data = to_json(writer.write(inference))
    if len(data) <= LARGEST:
        return data, writer.whole
    data = to_json(_Writer(0, redact, elements=False).write(inference))
    return (data if len(data) <= LARGEST else b"{}"), False


class _Writer:
    """Writes one inference. `whole` says whether nothing had to be left out."""

    def __init__(self, room: int, redact: Redact | None, *, elements: bool) -> None:
        self.whole = True
        self._room = room
        self._redact = redact
        self._elements = elements

    def write(self, inference: Inference) -> dict[str, Any]:
        written: dict[str, Any] = {}
        if isinstance(inference, InferResponse):
            written |= {"model_name": inference.model, "model_version": inference.version}
        if inference.id:
            written["id"] = self._text(inference.id)
        if inference.parameters and self._elements:
            written |= self._parameters(inference.parameters)
        if isinstance(inference, InferRequest):
            written["inputs"] = [self._tensor(tensor) for tensor in inference.inputs]
            if inference.outputs:
                written["outputs"] = [{"name": output.name} for output in inference.outputs]
        else:
            written["outputs"] = [self._tensor(tensor) for tensor in inference.outputs]
        return written

    def _tensor(self, tensor: Tensor) -> dict[str, Any]:
        written: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if not self._elements:
            return written
        if tensor.parameters:
            written |= self._parameters(tensor.parameters)
        if tensor.datatype is Datatype.BF16:  # JSON has no form for it
            parameters = written.get("parameters", {})
            written["parameters"] = {**parameters, "base64": b64encode(tensor.data).decode()}
        elif tensor.datatype is Datatype.BYTES:
            written["data"] = list(self._texts(tensor))
        else:
            written["data"] = unpack_elements(tensor.data, tensor.datatype)
        if tensor.datatype is not Datatype.BYTES:
            self._room -= len(tensor.data)
        return written

    def _texts(self, tensor: Tensor) -> Iterator[str | None]:
        """None for an element that is not UTF-8."""
        for element in unpack_bytes(tensor.data):
            if self._room <= 0:
                self.whole = False
                return
            try:
                text = self._text(element.decode())
            except UnicodeDecodeError:
                self.whole = False
                yield None
                continue
            if len(text) > self._room:
                text, self.whole = text[: self._room], False
            self._room -= len(text)
            yield text

    def _parameters(self, parameters: Mapping[str, JsonValue]) -> dict[str, Any]:
        told = self._value(dict(parameters))
        size = len(to_json(told))
        if size > self._room:
            self.whole = False
            return {}
        self._room -= size
        return {"parameters": told}

    def _value(self, value: JsonValue) -> JsonValue:
        """The value with its texts redacted; names within it too."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if isinstance(value, dict):
            return {self._text(name): self._value(one) for name, one in value.items()}
        return value

    def _text(self, text: str) -> str:
        return text if self._redact is None else self._redact(text)


def _clip(tensor: Tensor, room: int, *, whole: bool) -> bytes:
    data = tensor.data
    if tensor.datatype is not Datatype.BYTES:
        size = tensor.datatype.size
        return data if len(data) <= room else data[: room // size * size]
    if len(data) <= room and not (whole and len(data) > LONGEST_TEXT):
        return data
    kept: list[bytes] = []
    for element in unpack_bytes(data):
        if room <= 0 or (whole and len(element) > LONGEST_TEXT):
            break
        kept.append(element if whole else _beginning(element, room))
        room -= len(element)
    return pack_bytes(kept)


def _beginning(text: bytes, length: int) -> bytes:
    """At most so many bytes of UTF-8, without half a character at the end."""
    if len(text) <= length:
        return text
    end = length
    while end > max(0, length - 3) and text[end] & 0xC0 == 0x80:
        end -= 1
    return text[:end]
