"""Tensors as arrays and back, and elements as JSON: nothing is lost on the way."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.inference.elements import pack_elements, unpack_elements
from services.predictor.frameworks.base import Signature
from services.predictor.serving.arrays import NUMPY, to_array, to_tensor
from services.predictor.serving.signature import chosen_outputs
from shared.contracts.problems import Problem
from shared.contracts.tensors import Datatype, InferRequest, RequestedOutput, Tensor, TensorSpec, pack_bytes


def elements(datatype: Datatype) -> st.SearchStrategy[Any]:
    if datatype is Datatype.BYTES:
        return st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=5)
    if datatype is Datatype.BOOL:
        return st.booleans()
    dtype = NUMPY[datatype]
    if dtype.kind == "f":
        width: Any = dtype.itemsize * 8
        return st.floats(allow_nan=False, allow_infinity=False, width=width)
    info = np.iinfo(dtype)
    return st.integers(int(info.min), int(info.max))


@pytest.mark.parametrize("datatype", [each for each in Datatype if each is not Datatype.BF16])
def test_elements_of_json_come_back_through_an_array(datatype: Datatype) -> None:
    @given(st.lists(elements(datatype), max_size=6))
    def check(data: list[Any]) -> None:
        packed = pack_elements(data, datatype, (len(data),))
        tensor = Tensor(name="x", datatype=datatype, shape=(len(data),), data=packed)
        again = to_tensor("x", to_array(tensor), datatype)
        assert again.data == packed
        assert unpack_elements(again.data, datatype) == data

    check()


@given(st.lists(st.floats(width=32), min_size=1, max_size=6))
def test_bfloat16_is_rounded_to_the_nearest(numbers: list[float]) -> None:
    array = np.array(numbers, np.float32)
    made = to_tensor("x", array, Datatype.BF16)
    back = to_array(made)
    for before, after in zip(array, back, strict=True):
        if math.isnan(before):
            assert math.isnan(after)
        elif math.isfinite(after):
            assert abs(float(after) - float(before)) <= max(abs(float(before)) * 2**-8, 2**-133)
    assert to_tensor("x", back, Datatype.BF16).data == made.data


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        (Datatype.FP32, (2,), struct.pack("<f", 1)),
        (Datatype.FP32, (-1,), b""),
        (Datatype.BYTES, (2,), pack_bytes([b"a"])),
        (Datatype.BYTES, (1,), b"\5\0\0\0ab"),
        (Datatype.BYTES, (1,), b"\5\0"),
    ],
)
def test_data_of_another_shape_are_refused(datatype: Datatype, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(Problem, match="The tensor 'x'"):
        to_array(Tensor(name="x", datatype=datatype, shape=shape, data=data))


def test_an_output_of_no_datatype_is_an_error() -> None:
    with pytest.raises(TypeError, match="complex128"):
        to_tensor("y", np.array([1j]))
    with pytest.raises(TypeError, match="declared as BYTES"):
        to_tensor("y", np.array([1.0]), Datatype.BYTES)


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.BYTES, Datatype.BF16])
@pytest.mark.parametrize("shape", [(0, 2**63 - 1, 2**63 - 1), (2**62, 0), (2**40, 2**40, 0), (-1,), (0, -5)])
def test_a_shape_that_no_array_can_have_is_refused(datatype: Datatype, shape: tuple[int, ...]) -> None:
    with pytest.raises(Problem, match="no array can have it"):
        to_array(Tensor(name="x", datatype=datatype, shape=shape))


def test_an_output_is_asked_for_once() -> None:
    signature = Signature(inputs=(), outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(-1,)),), rows=True)
    once = RequestedOutput(name="y")
    assert chosen_outputs(signature, InferRequest(outputs=(once,))) == ("y",)
    with pytest.raises(Problem, match="asked for twice"):
        chosen_outputs(signature, InferRequest(outputs=(once, once)))
