"""Bodies of inferences that are wrong, or large."""

import asyncio
import gzip
import json
import struct
import threading
from typing import Any

import pytest

from services.gateway.inference.codec import MOST_JSON, decode_request, decompressed, off_the_loop
from shared.contracts.problems import Problem, ProblemType

LONGEST = 2**20


def body(datatype: str = "FP32", data: Any = (1, 2, 3, 4), **more: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 4], "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def refusal(content: bytes, kind: ProblemType = ProblemType.INVALID_REQUEST) -> str:
    with pytest.raises(Problem) as caught:
        decode_request(content, None, LONGEST)
    assert caught.value.kind is kind
    return caught.value.detail


@pytest.mark.parametrize("timeout", [10**400, -(10**400), True, "5", [5]])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    assert "parameters.timeout" in refusal(body(parameters={"timeout": timeout}))


@pytest.mark.parametrize(("datatype", "code"), [("FP16", "e"), ("FP32", "f"), ("FP64", "d")])
def test_null_is_a_number_that_json_does_not_have(datatype: str, code: str) -> None:
    (tensor,) = decode_request(body(datatype, [1, None, 3, 4]), None, LONGEST).request.inputs
    assert str(struct.unpack(f"<4{code}", tensor.data)) == "(1.0, nan, 3.0, 4.0)"


@pytest.mark.parametrize(("datatype", "wrong"), [("FP16", 1e6), ("FP32", 1e300), ("INT8", 128), ("UINT64", -1)])
def test_a_number_that_the_datatype_does_not_have_is_refused(datatype: str, wrong: float) -> None:
    assert f"not of {datatype}" in refusal(body(datatype, [1, wrong, 3, 4]))


def test_more_json_than_can_be_parsed_while_others_wait_is_refused_and_binary_tensors_are_not() -> None:
    assert "binary" in refusal(body() + b" " * MOST_JSON, ProblemType.TOO_LARGE)
    tensor = {"name": "x", "shape": [LONGEST], "datatype": "UINT8", "parameters": {"binary_data_size": LONGEST}}
    head = json.dumps({"inputs": [tensor]}).encode()
    decoded = decode_request(head + bytes(LONGEST), str(len(head)), LONGEST)
    assert len(decoded.request.inputs[0].data) == LONGEST


def test_a_body_that_grows_without_end_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        decompressed(gzip.compress(bytes(8 * LONGEST)), "gzip", LONGEST)
    assert caught.value.kind is ProblemType.TOO_LARGE


def test_only_large_bodies_are_left_to_a_thread() -> None:
    async def threads() -> tuple[int, int]:
        return await off_the_loop(100, threading.get_ident), await off_the_loop(LONGEST, threading.get_ident)

    small, large = asyncio.run(threads())
    assert small == threading.get_ident() != large
