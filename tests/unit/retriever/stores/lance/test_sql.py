"""Filters as SQL: escaped, typed, and without SQL's third truth value."""

import pytest

from services.retriever.stores.columns import Column, ColumnType
from services.retriever.stores.lance.sql import compile_filter, literal
from shared.contracts.filters import parse
from shared.contracts.problems import Problem, ProblemType

COLUMNS = {
    "lang": Column("m_lang", ColumnType.STRING),
    "year": Column("m_year", ColumnType.NUMBER),
    "draft": Column("m_draft", ColumnType.BOOLEAN),
}


@pytest.mark.parametrize(
    ("data", "sql"),
    [
        ({}, "true"),
        ({"lang": "en"}, "`m_lang` = 'en'"),
        ({"year": {"$gte": 2020}}, "`m_year` >= 2020.0"),
        ({"draft": False}, "`m_draft` = false"),
        ({"lang": {"$ne": "en"}}, "(`m_lang` IS NULL OR `m_lang` <> 'en')"),
        ({"$not": {"lang": {"$ne": "en"}}}, "`m_lang` = 'en'"),
        ({"year": {"$not": {"$lt": 3}}}, "(`m_year` IS NULL OR `m_year` >= 3.0)"),
        ({"lang": {"$in": ["a", "b"]}}, "`m_lang` IN ('a', 'b')"),
        ({"lang": {"$nin": ["a"]}}, "(`m_lang` IS NULL OR `m_lang` NOT IN ('a'))"),
        ({"lang": {"$in": []}}, "false"),
        ({"lang": {"$nin": []}}, "true"),
        ({"year": {"$exists": False}}, "`m_year` IS NULL"),
        ({"$or": [{"lang": "a"}, {"year": 1}]}, "(`m_lang` = 'a' OR `m_year` = 1.0)"),
        (
            {"$not": {"lang": "a", "year": 1}},
            "((`m_lang` IS NULL OR `m_lang` <> 'a') OR (`m_year` IS NULL OR `m_year` <> 1.0))",
        ),
    ],
)
def test_a_filter_compiles_to_its_predicate(data: object, sql: str) -> None:
    assert compile_filter(parse(data), COLUMNS) == sql


def test_a_quote_in_a_string_never_ends_the_literal() -> None:
    assert literal("x' OR '1'='1") == "'x'' OR ''1''=''1'"


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Problem) as caught:
        compile_filter(parse({"lnag": "en"}), COLUMNS)
    assert caught.value.kind is ProblemType.INVALID_FILTER
    assert "draft (boolean), lang (string), year (number)" in caught.value.detail


@pytest.mark.parametrize(
    "data", [{"year": "2020"}, {"lang": 1}, {"draft": 1}, {"year": True}, {"lang": {"$in": ["a", 1]}}]
)
def test_a_value_of_another_type_than_the_field_is_refused(data: object) -> None:
    with pytest.raises(Problem, match="is compared with a"):
        compile_filter(parse(data), COLUMNS)
