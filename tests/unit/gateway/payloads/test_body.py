"""What of an inference becomes the JSON of its payload."""

import json
import struct
from typing import Any

import pytest

from services.gateway.answers.redaction import contacts
from services.gateway.payloads.body import LARGEST, LONGEST_TEXT, clipped, payload_json
from shared.contracts.tensors import Datatype, InferRequest, InferResponse, RequestedOutput, Tensor, pack_bytes

NUMBERS = Tensor(name="x", datatype=Datatype.FP32, shape=(2, 2), data=struct.pack("<4f", 1, 2, float("nan"), 4))


def texts(*elements: str | bytes) -> Tensor:
    data = pack_bytes(each.encode() if isinstance(each, str) else each for each in elements)
    return Tensor(name="t", datatype=Datatype.BYTES, shape=(len(elements),), data=data)


def written(
    inference: InferRequest | InferResponse, room: int = 1000, *, redact: Any = None, elements: bool = True
) -> tuple[dict[str, Any], bool]:
    member = "inputs" if isinstance(inference, InferRequest) else "outputs"
    kept = clipped(getattr(inference, member), room, redacted=redact is not None)
    cut = inference.model_copy(update={member: kept})
    data, whole = payload_json(cut, room, redact, elements=elements)
    return json.loads(data), whole and kept == getattr(inference, member)


def test_it_is_version_2_of_the_protocol() -> None:
    request = InferRequest(
        id="7", parameters={"seed": 1}, inputs=(NUMBERS, texts("a")), outputs=(RequestedOutput(name="y"),)
    )
    assert written(request) == (
        {
            "id": "7",
            "parameters": {"seed": 1},
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, None, 4.0]},
                {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["a"]},
            ],
            "outputs": [{"name": "y"}],
        },
        True,
    )
    told, _ = written(InferResponse(model="m", version="1", outputs=(NUMBERS,)))
    assert (told["model_name"], told["model_version"], len(told["outputs"])) == ("m", "1", 1)


def test_without_elements_it_has_names_types_and_shapes() -> None:
    request = InferRequest(parameters={"seed": 1}, inputs=(texts("secret"),))
    told = {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1]}]}
    assert written(request, elements=False) == (told, True)


@pytest.mark.parametrize(
    ("tensor", "room", "kept"),
    [
        (NUMBERS, 10, [1.0, 2.0]),
        (NUMBERS, 0, []),
        (texts("abcdef", "ghi"), 4, ["abcd"]),
        (texts("ab", "cdef", "ghi"), 4, ["ab", "cd"]),
        (texts("grün und blau"), 3, ["gr"]),
        (texts("€€€"), 8, ["€€"]),
    ],
)
def test_what_is_beyond_the_room_is_left_out(tensor: Tensor, room: int, kept: list[object]) -> None:
    told, whole = written(InferRequest(inputs=(tensor,)), room)
    assert (told["inputs"][0]["data"], whole) == (kept, False)
    assert told["inputs"][0]["shape"] == list(tensor.shape)


def test_the_room_is_that_of_all_tensors() -> None:
    told, whole = written(InferRequest(inputs=(NUMBERS, NUMBERS, texts("abc"))), 24)
    assert ([len(each["data"]) for each in told["inputs"]], whole) == ([4, 2, 0], False)


def test_what_json_cannot_hold_is_base64_or_null() -> None:
    bfloat = Tensor(name="b", datatype=Datatype.BF16, shape=(1,), data=b"\x80\x3f", parameters={"p": 1})
    told, whole = written(InferRequest(inputs=(bfloat, texts(b"\xff\xfe", "a"))))
    assert told["inputs"][0]["parameters"] == {"p": 1, "base64": "gD8="}
    assert (told["inputs"][1]["data"], whole) == ([None, "a"], False)


def test_the_redactor_sees_every_text_whole() -> None:
    mail = "ines@harbour.example"
    request = InferRequest(
        id=mail,
        parameters={"note": f"ask {mail}", "list": [mail, 5], "deep": {mail: True}},
        inputs=(texts(f"ask {mail}", "later"),),
    )
    told, whole = written(request, 200, redact=contacts)
    assert whole
    assert "ines" not in json.dumps(told)
    assert told["inputs"][0]["data"] == ["ask [email]", "later"]
    # Half of the address would be within the room, and the redactor would not know it.
    told, whole = written(InferRequest(inputs=(texts(" " * 10 + mail),)), 15, redact=contacts)
    assert (told["inputs"][0]["data"], whole) == ([" " * 10 + "[emai"], False)


def test_of_a_text_that_is_too_long_for_a_redactor_nothing_is_kept() -> None:
    request = InferRequest(inputs=(texts("a", "b" * (LONGEST_TEXT + 1), "c"),))
    told, whole = written(request, 128 * 1024, redact=contacts)
    assert (told["inputs"][0]["data"], whole) == (["a"], False)


def test_the_json_fits_into_a_message_whatever_the_tensors_are() -> None:
    room = 128 * 1024
    worst = (
        texts("\x01" * room),
        Tensor(name="b", datatype=Datatype.BOOL, shape=(room,), data=bytes(room)),
        Tensor(name="f", datatype=Datatype.FP32, shape=(room // 4,), data=b"\x01\x02\x03\x04" * (room // 4)),
    )
    for tensor in worst:
        data, _ = payload_json(InferRequest(inputs=(tensor,)), room, None)
        assert len(data) <= LARGEST
    named = tuple(NUMBERS.model_copy(update={"name": str(n) * 300}) for n in range(1000))
    assert payload_json(InferRequest(inputs=named), room, None) == (b"{}", False)
    large: dict[str, Any] = {"p": "x" * (room + 1)}
    told, whole = written(InferRequest(parameters=large, inputs=(NUMBERS,)), room)
    assert ("parameters" not in told, whole) == (True, False)
