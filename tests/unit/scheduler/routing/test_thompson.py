"""Shares of variants by what readers say of them."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.routing.thompson import Rated, best_probabilities, bounded, estimate


def test_the_variant_that_readers_like_more_is_likely_the_best() -> None:
    found = best_probabilities({"default": (50, 50), "canary": (80, 20)}, seed=1)
    assert found["canary"] > 0.999
    assert sum(found.values()) == pytest.approx(1)
    assert found == best_probabilities({"default": (50, 50), "canary": (80, 20)}, seed=1)


def test_variants_that_nobody_has_rated_are_as_likely() -> None:
    found = best_probabilities({"a": (0, 0), "b": (0, 0), "c": (0, 0)}, seed=0)
    assert list(found.values()) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_few_ratings_leave_room_for_doubt() -> None:
    found = best_probabilities({"default": (2, 2), "canary": (3, 1)}, seed=0)
    assert 0.55 < found["canary"] < 0.9


shares = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.001, 1), min_size=2).map(
    lambda given: {name: value / sum(given.values()) for name, value in given.items()}
)


@given(shares, st.data(), st.floats(0.01, 0.5), st.floats(0.01, 1))
def test_new_shares_add_up_and_keep_to_their_bounds(
    now: dict[str, float], data: st.DataObject, floor: float, max_change: float
) -> None:
    drawn = data.draw(
        st.lists(st.floats(0, 1), min_size=len(now), max_size=len(now)).filter(lambda all_: sum(all_) > 0.01)
    )
    wanted = {name: value / sum(drawn) for name, value in zip(now, drawn, strict=True)}
    new = bounded(wanted, now, floor=floor, max_change=max_change)
    assert sum(new.values()) == pytest.approx(1)
    effective = min(floor, 1 / len(now))
    assert all(share >= effective - 1e-6 for share in new.values())
    if all(share >= effective for share in now.values()):
        assert all(abs(new[name] - now[name]) <= max_change + 1e-6 for name in now)


def test_without_a_bound_in_the_way_the_new_shares_are_the_wanted_ones() -> None:
    wanted = {"a": 0.3, "b": 0.7}
    assert bounded(wanted, {"a": 0.5, "b": 0.5}, floor=0.05, max_change=0.5) == pytest.approx(wanted)


def test_the_estimate_of_other_shares_is_near_what_they_are_worth() -> None:
    draw = random.Random(3)
    worth, now = {"a": 0.5, "b": 0.8}, {"a": 0.9, "b": 0.1}
    rated: Counter[Rated] = Counter()
    for _ in range(4000):
        variant = "b" if draw.random() < now["b"] else "a"
        rated[Rated(variant=variant, probability=now[variant], up=draw.random() < worth[variant])] += 1
    found = estimate(rated, now, {"a": 0.2, "b": 0.8}, seed=0)
    assert found.now == pytest.approx(0.53, abs=0.03)
    assert found.new == pytest.approx(0.74, abs=0.04)
    assert found.low < 0.21 < found.high
    assert found.low > 0.1


def test_the_estimate_of_the_same_shares_is_no_gain() -> None:
    now = {"a": 0.5, "b": 0.5}
    rated = {Rated(variant="a", probability=0.5, up=True): 5, Rated(variant="b", probability=0.5, up=False): 3}
    found = estimate(rated, now, now, seed=0)
    assert (found.gain, found.low, found.high) == (0, 0, 0)
