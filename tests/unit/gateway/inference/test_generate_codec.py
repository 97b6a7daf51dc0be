"""Which shape the elements of a generate request take."""

import pytest

from services.gateway.inference.generate.codec import GenerateBody, decode_generate, encode_generate
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferResponse, Tensor, TensorSpec, pack_bytes


def spec(*shape: int, datatype: Datatype = Datatype.INT8) -> tuple[TensorSpec, ...]:
    return (TensorSpec(name="x", datatype=datatype, shape=shape),)


@pytest.mark.parametrize(
    ("given", "dimensions", "shape"),
    [
        (5, (), (1,)),
        ([5, 6], (), (2,)),
        (5, (1,), (1,)),
        (5, (-1,), (1,)),
        ([5, 6], (-1,), (2,)),
        ([5, 6, 7, 8], (-1, 2), (2, 2)),
        ([5, 6, 7, 8], (2, -1), (2, 2)),
        ([5, 6], (-1, -1), (1, 2)),
        ([5, 6, 7, 8], (-1, 2, -1), (1, 2, 2)),
        ([[5, 6], [7, 8]], (-1, -1), (2, 2)),
        ([], (-1, 3), (0, 3)),
    ],
)
def test_elements_fill_fixed_dimensions_and_then_the_last_free_one(
    given: object, dimensions: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    request, timeout = decode_generate(GenerateBody.model_validate({"x": given}), spec(*dimensions), 100)
    assert (request.inputs[0].shape, timeout) == (shape, None)


@pytest.mark.parametrize(
    ("given", "dimensions"),
    [([5, 6], (1,)), ([5, 6, 7], (-1, 2)), ([5], (0,)), ([[5], [6, 7]], (-1, -1))],
)
def test_what_does_not_fit_is_refused(given: object, dimensions: tuple[int, ...]) -> None:
    with pytest.raises(Problem) as caught:
        decode_generate(GenerateBody.model_validate({"x": given}), spec(*dimensions), 100)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    assert caught.value.detail.startswith("x: has ")


def test_what_is_deeper_or_larger_than_allowed_is_refused() -> None:
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    for given, kind in ((deep, ProblemType.INVALID_REQUEST), ([1] * 101, ProblemType.TOO_LARGE)):
        with pytest.raises(Problem) as caught:
            decode_generate(GenerateBody.model_validate({"x": given}), spec(-1), 100)
        assert caught.value.kind is kind


def test_other_members_are_parameters_and_null_is_nothing() -> None:
    body = GenerateBody.model_validate(
        {"x": 5, "text_input": "a", "other": None, "seed": 7, "timeout": 2_000_000, "parameters": {"top_k": 3}}
    )
    request, timeout = decode_generate(body, spec(1), 100)
    assert (request.parameters, timeout) == ({"text_input": "a", "seed": 7, "top_k": 3}, 2.0)
    assert [each.name for each in request.inputs] == ["x"]


def test_an_output_is_its_element_or_the_list_of_them() -> None:
    outputs = (
        Tensor(name="one", datatype=Datatype.BYTES, shape=(1, 1), data=pack_bytes([b"a"])),
        Tensor(name="two", datatype=Datatype.UINT8, shape=(2,), data=b"\x01\x02"),
        Tensor(name="none", datatype=Datatype.UINT8, shape=(0,)),
    )
    response = InferResponse(model="m", version="1", parameters={"p": 1}, outputs=outputs)
    expected = b'{"model_name":"m","model_version":"1","parameters":{"p":1},"one":"a","two":[1,2],"none":[]}'
    assert encode_generate(response) == expected
