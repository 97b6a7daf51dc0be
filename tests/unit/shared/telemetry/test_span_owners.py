"""Whose spans are, in a trace that several tenants share."""

import pytest

from shared.telemetry.span_owners import Ancestry, spans_of


def shown(tenant: str, spans: list[Ancestry]) -> list[object]:
    return [span.span_id for span in spans_of(tenant, spans, lambda span: span)]


def test_a_span_without_a_tenant_belongs_to_the_nearest_one_above_it_with_a_tenant() -> None:
    spans = [
        Ancestry(1, None, "ann"),
        Ancestry(2, 1, None),
        Ancestry(3, 2, None),
        Ancestry(4, 1, "bob"),
        Ancestry(5, 4, None),
    ]
    assert shown("ann", spans) == [1, 2, 3]
    assert shown("bob", spans) == [4, 5]
    assert shown("eve", spans) == []


@pytest.mark.parametrize("lost", [Ancestry(3, None, None), Ancestry(3, 99, None), Ancestry(3, 3, None)])
def test_a_span_whose_tenant_is_not_known_is_shown_only_where_the_trace_has_one_tenant(lost: Ancestry) -> None:
    assert shown("ann", [Ancestry(1, None, "ann"), lost]) == [1, 3]
    assert shown("ann", [Ancestry(1, None, "ann"), Ancestry(2, None, "bob"), lost]) == [1]


def test_spans_that_are_each_others_parents_end_the_search() -> None:
    assert shown("ann", [Ancestry(1, 2, None), Ancestry(2, 1, None), Ancestry(3, None, "ann")]) == [1, 2, 3]
