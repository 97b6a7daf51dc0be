"""A question is text as people paste it."""

import pytest

from services.gateway.queries.planner import validate_question
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import Problem, ProblemType


@pytest.mark.parametrize(
    ("pasted", "question"),
    [
        ("When does\x0bit open?", "When does it open?"),
        ("When does\x0cit open?\x0c", "When does it open?"),
        ("When does\x85it\u2028open?", "When does it open?"),
        ("Part QX\x1e17\x07open\xading\x02?", "Part QX-17 opening?"),
        ("two\nlines\tof text", "two\nlines\tof text"),
    ],
)
def test_ends_of_lines_and_marks_of_other_programs_are_no_obstacle(pasted: str, question: str) -> None:
    assert validate_question(pasted, GatewaySettings()) == question


@pytest.mark.parametrize("question", ["a\x00b", "caf\x82", "\ufffe?", "\ufffd\ufffd", "\x0c \xad"])
def test_what_is_no_text_is_refused(question: str) -> None:
    with pytest.raises(Problem) as caught:
        validate_question(question, GatewaySettings())
    assert caught.value.kind is ProblemType.INVALID_QUESTION
