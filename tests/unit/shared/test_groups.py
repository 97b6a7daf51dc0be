"""Items in groups of bounded size."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.groups import groups


def test_a_group_is_bounded_by_number_and_by_size() -> None:
    assert list(groups("aaaaa", len, most=2, most_size=9)) == [("a", "a"), ("a", "a"), ("a",)]
    assert list(groups(["aaa", "bb", "c"], len, most=9, most_size=5)) == [("aaa", "bb"), ("c",)]
    assert list(groups([], len, most=1, most_size=1)) == []


def test_what_is_too_large_goes_alone() -> None:
    assert list(groups(["a", "bbbb", "c"], len, most=9, most_size=3)) == [("a",), ("bbbb",), ("c",)]


@given(st.lists(st.integers(0, 9)), st.integers(1, 4), st.integers(1, 12))
def test_nothing_is_lost_and_no_group_could_have_taken_the_next_item(sizes: list[int], most: int, limit: int) -> None:
    made = list(groups(sizes, lambda size: size, most=most, most_size=limit))
    assert [size for group in made for size in group] == sizes
    for group, following in pairwise(made):
        assert len(group) == most or sum(group) + following[0] > limit
