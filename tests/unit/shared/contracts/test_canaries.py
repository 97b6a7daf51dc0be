"""The counts that a canary is judged by."""

import math

from shared.contracts.canaries import BOUNDS, CanaryCounts, VersionCounts


def answered(*seconds: float) -> VersionCounts:
    counts = VersionCounts()
    for each in seconds:
        counts = counts.with_answer(each, declined=False)
    return counts


def test_the_counts_of_gateways_add_up_by_version() -> None:
    one = CanaryCounts(versions={"v1": answered(0.2).with_failure(), "v2": answered(0.1).with_rating(up=1, down=0)})
    other = CanaryCounts(versions={"v2": VersionCounts().with_answer(0.1, declined=True).with_rating(up=-1, down=1)})
    total = CanaryCounts.total([one, other])
    assert (total.of("v1").asked, total.of("v1").answered, total.of("v1").failed) == (2, 1, 1)
    v2 = total.of("v2")
    assert (v2.answered, v2.declined, v2.up, v2.down, v2.rated) == (2, 1, 0, 1, 1)
    assert total.of("v3") == VersionCounts()


def test_a_quantile_is_the_upper_bound_of_its_bucket() -> None:
    counts = answered(*[0.04] * 95, *[4.0] * 5)
    assert counts.quantile(0.5) == counts.quantile(0.95) == 0.05
    assert counts.quantile(0.96) == 5
    assert math.isinf(answered(1000.0).quantile(0.5))


def test_what_lies_in_the_bucket_of_a_time_is_not_counted_as_slower() -> None:
    counts = answered(0.04, 0.06, 0.09, 0.14, 200.0)
    assert counts.slower_than(0.05) == 4
    assert counts.slower_than(0.1) == 2
    assert counts.slower_than(0.11) == 1
    assert counts.slower_than(BOUNDS[-1]) == 1
    assert counts.slower_than(math.inf) == 0


def test_counts_travel_as_json() -> None:
    counts = CanaryCounts(versions={"v1": answered(0.1, 3.0)})
    assert CanaryCounts.model_validate_json(counts.model_dump_json()) == counts
