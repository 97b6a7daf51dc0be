"""Expressions: what they mean, and what they cannot do."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.pipelines import ExpressionError, parse, resolve

SCOPE: dict[str, Any] = {
    "parameters": {"minimum": 0.9, "names": ["a", "b"], "on": True},
    "evaluate": {"recall_at_5": 0.93, "questions": 40, "report": {"worst": "q7"}, "f1": None},
    "item": "docs",
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("evaluate.recall_at_5 >= 0.9", True),
        ("evaluate.recall_at_5 >= 0.9 and evaluate.questions > 50", False),
        ("evaluate.recall_at_5 < parameters.minimum or parameters.on", True),
        ("not (1 < 2 < 3)", False),
        ("item in ['docs', 'wiki'] and 'x' not in item", True),
        ("evaluate.report.worst == 'q7' and evaluate['report']['worst'] == 'q7'", True),
        ("evaluate.f1 == null", True),
        ("true and not false", True),
        ("parameters.names[1] + '-' + item", "b-docs"),
        ("parameters.names[-1]", "b"),
        ("round(evaluate.recall_at_5 * 100, 1)", 93.0),
        ("max(1, min(4, 3)) + len(parameters.names) // 2 - -1", 5),
        ("'good' if evaluate.recall_at_5 > 0.5 else missing.name", "good"),
        ("[1, item]", [1, "docs"]),
        ("text(0.5) + text(true) + text(null)", "0.5truenull"),
        ("7 % 4 / 2", 1.5),
        ("\n  evaluate.questions > 30\n  and item == 'docs'  # over lines, with a comment\n", True),
    ],
)
def test_an_expression_is_what_it_says(text: str, value: object) -> None:
    assert parse(text).evaluate(SCOPE) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("evaluate.recall", "there is no `evaluate.recall`; known here: f1, questions, recall_at_5, report"),
        ("evaluate.f1 >= 0.5", "`evaluate.f1 >= 0.5` compares null with a number"),
        ("evaluate.questions >= '3'", "compares a number with a text"),
        ("evaluate.questions and true", "`evaluate.questions` is a number, not true or false"),
        ("item * 3", "wants a number, not a text"),
        ("1 / 0", "divides by zero"),
        ("parameters.names[2]", "there are only 2 items"),
        ("parameters.names['a']", "a list has no item 'a'"),
        ("item.upper", "a text has no members"),
        ("true > false", "compares true with false"),
        ("len(3)", "len cannot take a number"),
        ("1e308 * 10", "too large"),
        (r"'\ud800'", "not valid Unicode"),
        (r"parameters['\udfff']", "not valid Unicode"),
        (r"false and 'a\udc00' == 'b'", "not valid Unicode"),
        ("9007199254740993", "too large"),
    ],
)
def test_what_cannot_be_evaluated_says_why(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text).evaluate(SCOPE)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "a; b",
        "a = 1",
        "(a := 1)",
        "__import__('os')",
        "len.__class__",
        "item.__class__",
        "open('x')",
        "item.upper()",
        "(lambda: 1)()",
        "[x for x in item]",
        "{1: 2}",
        "{1}",
        "f'{item}'",
        "item[0:1]",
        "*item",
        "2 ** 99",
        "1 << 99",
        "~1",
        "b'x'",
        "1j",
        "...",
        "a is b",
        "len(item, key=1)",
        "await item",
        "x" * 1001,
        "(" * 400 + "1" + ")" * 400,
        "not " * 100 + "true",
    ],
)
def test_what_is_not_of_the_language_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


@given(st.text(max_size=200))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    with suppress(ExpressionError):
        parse(text).evaluate(SCOPE)


@given(
    st.from_regex(
        r"(item|parameters\.names|'x'|9|len\()( ?[-+*/%<>=,.()\[\]] ?(item|'y'|8|\]|\)|names)){0,30}", fullmatch=True
    )
)
def test_what_looks_like_an_expression_is_evaluated_or_refused(text: str) -> None:
    with suppress(ExpressionError):
        parse(text).evaluate(SCOPE)


def test_a_text_that_is_a_placeholder_keeps_the_type_and_one_inside_a_text_is_written_out() -> None:
    template = {
        "whole": "${{ evaluate.questions }}",
        "spaced": " ${{ parameters.names }} ",
        "inside": "at ${{evaluate.questions}} of ${{ parameters.names }}, ${{ evaluate.f1 }}",
        "list": ["${{ parameters.on }}", 3, {"deep": "${{ item }}"}],
        "plain": "$ {{ item }}",
    }
    assert resolve(template, SCOPE) == {
        "whole": 40,
        "spaced": ["a", "b"],
        "inside": 'at 40 of ["a", "b"], null',
        "list": [True, 3, {"deep": "docs"}],
        "plain": "$ {{ item }}",
    }


def test_the_names_that_an_expression_reads_are_known() -> None:
    expression = parse("a.b.c + d['e'] if f else [g.h][0] in len(i) and true")
    assert set(expression.references) == {("a", "b", "c"), ("d", "e"), ("f",), ("g", "h"), ("i",)}
