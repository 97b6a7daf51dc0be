"""Triton's configurations as text of Protocol Buffers."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.predictor.repository.pbtxt import one, parse, several

CONFIG = """
name: "digits"  # a comment
platform: 'onnxruntime_onnx'
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }, { name: "t", data_type: TYPE_STRING, dims: 1; dims: 2 } ]
output { name: "y" data_type: TYPE_INT64 dims: [] }
version_policy: { specific { versions: [1, 3] } }
dynamic_batching < preferred_batch_size: 4 >
parameters { key: "k" value: { string_value: "a" "b\\"c" } }
cost: -1.5e3f
eager: true
"""


def test_a_configuration_is_read() -> None:
    read = parse(CONFIG)
    assert [one(read, name, None) for name in ("name", "platform", "max_batch_size")] == [
        "digits",
        "onnxruntime_onnx",
        8,
    ]
    first, second = several(read, "input")
    assert (several(first, "dims"), one(first, "data_type", "")) == ([3, -1], "TYPE_FP32")
    assert several(second, "dims") == [1, 2]
    assert several(several(read, "output")[0], "dims") == []
    assert one(one(read, "version_policy", {}), "specific", {}) == {"versions": [1, 3]}
    assert one(one(read, "dynamic_batching", {}), "preferred_batch_size", 0) == 4
    assert one(one(read, "parameters", {}), "value", {}) == {"string_value": ['ab"c']}
    assert (one(read, "cost", 0), one(read, "eager", False)) == (-1500.0, True)
    assert one(read, "absent", "default") == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: ", "line 1: a value is expected, not 'the end'"),
        ("a: 1\nname 2", "line 2: ':' is expected after 'name'"),
        ("a: 1\n}", "a field's name is expected, not '}'"),
        ("a {", "a field's name is expected, not 'the end'"),
        ("a: [1", "a value is expected"),
        ("a: ?", "line 1: '?' is not expected"),
        ("a {" * 100, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse(text)
    assert said in str(raised.value)


@given(st.text(alphabet="ab:{}[]<>\"' \n1.-#,", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(parse(text), dict)
