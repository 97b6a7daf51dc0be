"""Who may see a document."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.contracts.documents import Document
from shared.contracts.filters import guarded, parse, unguarded
from shared.contracts.principals import (
    ALL,
    EVERYBODY,
    Allowed,
    check_allowed,
    covers,
    is_permitted,
    is_principal,
    normalized,
    seen_by,
)
from shared.contracts.problems import Problem, ProblemType

NAMES = ("user:alice", "user:bob", "group:hr", "group:it")
carried = st.lists(st.sampled_from((*NAMES, ALL)), max_size=3).map(tuple)
lists = st.one_of(st.none(), st.lists(st.sampled_from(NAMES), max_size=3).map(tuple))

allowed_type: TypeAdapter[tuple[str, ...]] = TypeAdapter(Allowed)


@pytest.mark.parametrize("principal", ["user:alice", "group:HR staff", "user:a@b.example", "team_1:x", "user:o'neil"])
def test_a_principal_is_a_kind_and_a_name(principal: str) -> None:
    assert is_principal(principal)
    assert check_allowed([principal, principal]) == (principal,)
    assert allowed_type.validate_python([principal]) == (principal,)


@pytest.mark.parametrize(
    "text", ["", "alice", "user:", ":alice", "*", "user: alice", "user:alice ", "User:alice", "user:a\nb", "user:\x00a"]
)
def test_what_is_no_principal_is_in_no_list(text: str) -> None:
    assert not is_principal(text)
    with pytest.raises(Problem) as refused:
        check_allowed([text])
    assert refused.value.kind is ProblemType.INVALID_REQUEST
    with pytest.raises(ValidationError):
        allowed_type.validate_python([text])


def test_public_stands_alone_and_is_for_everybody() -> None:
    assert normalized(check_allowed([EVERYBODY])) is None
    assert normalized(check_allowed([])) == ()
    with pytest.raises(Problem):
        check_allowed([EVERYBODY, "user:alice"])
    with pytest.raises(ValidationError):
        allowed_type.validate_python([EVERYBODY, "user:alice"])
    with pytest.raises(Problem):
        check_allowed([f"user:{number}" for number in range(257)])


@given(lists, carried)
def test_a_document_is_seen_without_a_list_or_by_one_of_its_principals(
    allowed: tuple[str, ...] | None, principals: tuple[str, ...]
) -> None:
    expected = allowed is None or ALL in principals or any(one in allowed for one in principals)
    assert is_permitted(allowed, principals) is expected
    readers = seen_by(principals)
    assert (readers is None) is (ALL in principals)
    if readers is not None:
        assert is_permitted(allowed, readers) is expected


@given(carried, carried, st.lists(lists, min_size=1))
def test_who_covers_another_sees_all_that_the_other_sees(
    one: tuple[str, ...], other: tuple[str, ...], documents: list[tuple[str, ...] | None]
) -> None:
    if covers(one, other):
        assert all(is_permitted(allowed, one) for allowed in documents if is_permitted(allowed, other))
    assert covers(one, one)
    assert covers(one, ())


@given(st.lists(st.tuples(lists, st.integers(0, 9)), max_size=6), st.randoms())
def test_the_latest_list_holds_in_whatever_order_lists_arrive(
    changes: list[tuple[tuple[str, ...] | None, int]], random: Random
) -> None:
    distinct = list({revision: (allowed, revision) for allowed, revision in changes}.values())
    record = Document(id="d", name="d", sha256="", bytes=0, chunks=0, indexed_at=0, revision=0, job="")
    for allowed, revision in random.sample(distinct, len(distinct)):
        record = record.permitting(allowed, revision)
    expected = max(distinct, key=lambda change: change[1], default=(None, -1))
    assert (record.allowed, record.allowed_revision) == expected


def test_a_guarded_filter_is_one_that_no_retriever_takes_which_does_not_know_it() -> None:
    for wanted in (None, {}, {"year": 2020}):
        guard = guarded(wanted)
        with pytest.raises(Problem) as refused:
            parse(guard)
        assert refused.value.kind is ProblemType.INVALID_FILTER
        assert unguarded(guard) == (wanted or {})
    assert unguarded({"year": 2020}) == {"year": 2020}
    assert unguarded(None) is None
