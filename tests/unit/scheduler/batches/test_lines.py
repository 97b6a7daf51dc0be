"""The input of a batch: what is a line, and what makes it unusable."""

import json
from io import BytesIO
from typing import Any

import pytest

from services.scheduler.batches.lines import MOST_LINES, body_of, scan
from shared.contracts.jobs import Endpoint
from shared.contracts.problems import Problem, ProblemType

CHAT = Endpoint.CHAT


def full(custom_id: Any, **members: Any) -> bytes:
    line = {"custom_id": custom_id, "method": "POST", "url": CHAT.value, "body": {"model": "m", "n": 1}}
    return json.dumps(line | members).encode() + b"\n"


def mistakes(data: bytes) -> list[tuple[int | None, str]]:
    with pytest.raises(Problem) as refused:
        scan(BytesIO(data), CHAT)
    assert refused.value.kind is ProblemType.INVALID_REQUEST
    return [(one["line"], one["code"]) for one in refused.value.extras["errors"]]


def test_each_line_gives_its_body_wherever_it_lies() -> None:
    source = BytesIO(b"\xef\xbb\xbf" + full("a") + b"\r\n\n" + full("b", body={"text": "ü\n", "big": 2**60}).rstrip())
    lines = scan(source, CHAT)
    assert [(line.number, line.custom_id) for line in lines] == [(1, "a"), (4, "b")]
    assert [json.loads(body_of(source, line)) for line in reversed(lines)] == [
        {"text": "ü\n", "big": 2**60},
        {"model": "m", "n": 1},
    ]


def test_a_line_may_be_only_a_body() -> None:
    source = BytesIO(b'{"question": "What?"}\n{"question": "Why?", "custom_id": "why"}\n')
    lines = scan(source, Endpoint.QUERY)
    assert [line.custom_id for line in lines] == ["line-1", "why"]
    assert [json.loads(body_of(source, line)) for line in lines] == [{"question": "What?"}, {"question": "Why?"}]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"[1]\n", "invalid_json_line"),
        (b'{"a": NaN}\n', "invalid_json_line"),
        (b"\xff\n", "invalid_json_line"),
        (full("a", body=None), "missing_required_parameter"),
        (full("a", body=[]), "invalid_type"),
        (full("a", body={"stream": True}), "invalid_value"),
        (full(""), "invalid_value"),
        (full("x" * 513), "invalid_value"),
        (full(7), "invalid_value"),
        (full("a", method="PUT"), "invalid_method"),
        (full("a", url="/v1/query"), "invalid_url"),
    ],
)
def test_every_mistake_is_told_with_its_line(line: bytes, code: str) -> None:
    assert mistakes(full("first") + line + full("last")) == [(2, code)]


def test_all_mistakes_of_a_file_are_told_at_once_up_to_a_hundred() -> None:
    assert mistakes(full("a") + b"{\n" + full("a") + full("b")) == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
    ]
    assert len(mistakes(b"{\n" * 500)) == 100


def test_a_file_without_lines_and_one_with_too_many_cannot_be_used() -> None:
    assert mistakes(b"\n \n") == [(None, "empty_file")]
    many = b"".join(b'{"n": %d}\n' % number for number in range(MOST_LINES + 3))
    assert mistakes(many) == [(MOST_LINES + 1, "too_many_requests")]
