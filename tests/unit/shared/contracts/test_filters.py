"""The filter language: what it accepts, what it says about the rest."""

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.filters import (
    And,
    Compare,
    Comparison,
    Exists,
    Filter,
    In,
    Not,
    Or,
    parse,
    validate_metadata,
)
from shared.contracts.problems import Problem, ProblemType

OPERATORS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$and", "$or", "$not"]


@pytest.mark.parametrize(
    ("data", "tree"),
    [
        ({}, And(())),
        ({"lang": "en"}, Compare("lang", Comparison.EQ, "en")),
        ({"year": {"$gte": 2020}}, Compare("year", Comparison.GTE, 2020)),
        (
            {"year": {"$gt": 1, "$lt": 2.5}},
            And((Compare("year", Comparison.GT, 1), Compare("year", Comparison.LT, 2.5))),
        ),
        (
            {"a": True, "b": {"$ne": "x"}},
            And((Compare("a", Comparison.EQ, True), Compare("b", Comparison.NE, "x"))),
        ),
        ({"a": {"$in": ["x", "y"]}}, In("a", ("x", "y"))),
        ({"a": {"$nin": [1]}}, Not(In("a", (1,)))),
        ({"a": {"$in": []}}, In("a", ())),
        ({"a": {"$exists": True}}, Exists("a")),
        ({"a": {"$exists": False}}, Not(Exists("a"))),
        ({"a": {"$not": {"$gt": 3}}}, Not(Compare("a", Comparison.GT, 3))),
        ({"$not": {"a": 1}}, Not(Compare("a", Comparison.EQ, 1))),
        (
            {"$or": [{"a": 1}, {"b": {"$lte": 2}}]},
            Or((Compare("a", Comparison.EQ, 1), Compare("b", Comparison.LTE, 2))),
        ),
        ({"$and": [{"a": 1}]}, And((Compare("a", Comparison.EQ, 1),))),
    ],
)
def test_a_filter_parses_to_its_tree(data: object, tree: Filter) -> None:
    assert parse(data) == tree


@pytest.mark.parametrize(
    ("data", "path", "advice"),
    [
        (None, "filter", '{"year": {"$gte": 2020}}'),
        ([], "filter", "object"),
        ({"a": None}, "filter.a", '{"a": {"$exists": false}}'),
        ({"a": ["x"]}, "filter.a", '{"a": {"$in": [...]}}'),
        ({"a": {}}, "filter.a", "$gte"),
        ({"a": {"gte": 1}}, "filter.a", "$gte"),
        ({"a": {"$regex": "x"}}, "filter.a", "$gte"),
        ({"a": {"$gt": True}}, "filter.a.$gt", "$eq"),
        ({"a": {"$eq": {"b": 1}}}, "filter.a.$eq", "string"),
        ({"a": {"$in": "x"}}, "filter.a.$in", '["en", "de"]'),
        ({"a": {"$in": ["x", None]}}, "filter.a.$in[1]", "string"),
        ({"a": {"$in": ["x"] * 257}}, "filter.a.$in", "256"),
        ({"a": {"$exists": 1}}, "filter.a.$exists", "true or false"),
        ({"a": {"$not": 3}}, "filter.a.$not", "$ne"),
        ({"$gte": 3}, "filter", "<field>"),
        ({"$nor": []}, "filter", "$or"),
        ({"$or": []}, "filter.$or", "list"),
        ({"$or": {"a": 1}}, "filter.$or", "list"),
        ({"$or": [{"a": 1}, {}]}, "filter.$or[1]", "field"),
        ({"a-b": 1}, "filter", "underscores"),
        ({"1a": 1}, "filter", "underscores"),
        ({"": 1}, "filter", "underscores"),
        ({"a" * 65: 1}, "filter", "64"),
        ({"a\n": 1}, "filter", "underscores"),
        ({3: 1}, "filter", "underscores"),
        ({"a": "x" * 1001}, "filter.a", "1000"),
        ({"a": "\ud800"}, "filter.a", "surrogate"),
        ({"a": math.inf}, "filter.a", "finite"),
        ({"a": math.nan}, "filter.a", "finite"),
        ({"a": 2**53 + 1}, "filter.a", "string"),
        ({"a": 10**5000}, "filter.a", "string"),
        ({"a": b"x"}, "filter.a", "string"),
    ],
)
def test_a_bad_filter_is_refused_with_its_path_and_what_to_write(data: object, path: str, advice: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(data)
    assert caught.value.kind is ProblemType.INVALID_FILTER
    assert caught.value.extras["path"] == path
    assert caught.value.detail.startswith(path)
    assert advice in caught.value.detail


def nested(levels: int, wrap: str) -> object:
    data: object = {"a": 1}
    for _ in range(levels - 1):
        data = {wrap: data} if wrap == "$not" else {wrap: [data]}
    return data


@pytest.mark.parametrize("wrap", ["$not", "$and", "$or"])
def test_filters_nest_eight_deep_and_no_deeper(wrap: str) -> None:
    parse(nested(8, wrap))
    with pytest.raises(Problem, match="deeper than 8"):
        parse(nested(9, wrap))
    with pytest.raises(Problem, match="deeper than 8"):
        parse(nested(500, wrap))


def test_not_on_a_field_counts_as_depth() -> None:
    data: object = {"$gt": 1}
    for _ in range(100):
        data = {"$not": data}
    with pytest.raises(Problem, match="deeper than 8"):
        parse({"a": data})


def test_a_filter_has_at_most_64_conditions() -> None:
    parse({"$or": [{"a": 1, "b": 2}] * 32})
    with pytest.raises(Problem, match="at most 64"):
        parse({"$or": [{"a": 1, "b": 2}] * 33})


names = st.sampled_from(["a", "year", "", "a b", "$x", "position"]) | st.sampled_from(OPERATORS) | st.text(max_size=5)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.integers(), inner, max_size=4),
    max_leaves=30,
)


def outcome(function: Callable[[object], object], data: object) -> object:
    try:
        return function(data)
    except Problem as problem:
        return problem


@given(json_like)
def test_any_data_gives_a_tree_or_a_problem(data: object) -> None:
    result = outcome(parse, data)
    if isinstance(result, Problem):
        assert result.kind is ProblemType.INVALID_FILTER
        json.dumps(result.details.model_dump())
    else:
        assert isinstance(result, And | Or | Not | Compare | In | Exists)


@given(json_like)
def test_any_data_gives_metadata_or_a_problem(data: object) -> None:
    result = outcome(validate_metadata, data)
    if isinstance(result, Problem):
        assert result.kind is ProblemType.INVALID_METADATA
    else:
        assert json.loads(json.dumps(result)) == result


def test_valid_metadata_is_returned_as_it_is() -> None:
    metadata = {"lang": "en", "year": 2020, "score": 0.5, "reviewed": False}
    assert validate_metadata(metadata) == metadata


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], "metadata"),
        ({str(i): 1 for i in range(33)}, "metadata"),
        ({"a b": 1}, "metadata"),
        ({"document": "x"}, "metadata.document"),
        ({"position": 1}, "metadata.position"),
        ({"a": None}, "metadata.a"),
        ({"a": [1]}, "metadata.a"),
        ({"a": {"b": 1}}, "metadata.a"),
        ({"a": "x" * 1001}, "metadata.a"),
        ({"a": math.nan}, "metadata.a"),
    ],
)
def test_bad_metadata_is_refused_with_its_path(data: object, path: str) -> None:
    with pytest.raises(Problem) as caught:
        validate_metadata(data)
    assert caught.value.kind is ProblemType.INVALID_METADATA
    assert caught.value.extras["path"] == path
