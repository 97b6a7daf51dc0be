"""The simulated autoscaler against the examples and rules of Kubernetes' documentation."""

import numpy as np
import pytest

from benchmarks.autoscaling.autoscaler import Autoscaler, Rules, Step
from benchmarks.autoscaling.stage import Costs, simulate

QUICK = Rules(window=0, steps=(Step(kind="Percent", value=1000, period=15),))


def autoscaler(up: Rules = QUICK, down: Rules = QUICK, most: int = 100, least: int = 1) -> Autoscaler:
    return Autoscaler(target=10, least=least, most=most, up=up, down=down)


@pytest.mark.parametrize(
    ("metric", "wanted"), [(100, 10), (109, 10), (91, 10), (112, 12), (85, 9), (0, 1), (5000, 100)]
)
def test_pods_are_the_metric_over_the_target_within_a_tolerance_and_bounds(metric: float, wanted: int) -> None:
    free = Rules(window=0, steps=(Step(kind="Percent", value=100, period=15),))
    assert autoscaler(down=free).sync(0, metric, 10) == wanted


def test_the_default_steps_up_are_the_larger_of_double_and_four_more() -> None:
    assert Autoscaler(target=1, least=1, most=100).sync(0, 90, 2) == 6
    assert Autoscaler(target=1, least=1, most=100).sync(0, 90, 10) == 20


def test_steps_down_are_those_of_the_documented_example() -> None:
    """10 percent or four Pods a minute, whichever is more, from 80 Pods to 10."""
    down = Rules(window=0, steps=(Step(kind="Pods", value=4, period=60), Step(kind="Percent", value=10, period=60)))
    scaler, pods, seen = autoscaler(down=down), 80, []
    for minute in range(12):
        pods = scaler.sync(minute * 60.0, 100, pods)
        seen.append(pods)
    assert seen == [72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16]


def test_a_window_up_takes_the_least_that_was_wanted_in_it() -> None:
    scaler = autoscaler(up=Rules(window=30, steps=QUICK.steps))
    assert [scaler.sync(at, metric, 2) for at, metric in ((0, 20), (15, 90), (29, 50), (45, 60))] == [2, 2, 2, 5]


def test_a_window_down_takes_the_most_that_was_wanted_in_it() -> None:
    scaler = autoscaler(down=Rules(window=30, steps=(Step(kind="Percent", value=100, period=15),)))
    assert [scaler.sync(at, metric, 9) for at, metric in ((0, 90), (15, 20), (30, 40), (46, 20))] == [9, 9, 4, 4]


def test_a_stage_serves_all_that_its_pods_have_the_time_for() -> None:
    costs = Costs(work=0.01, start=1.0, idle=0.0)
    arrivals = np.arange(0, 50, 0.01)
    outcome = simulate(autoscaler(least=2, most=2), costs, arrivals, seconds=60, cores=4, phase=0)
    assert (len(outcome.waits), outcome.missed, set(outcome.pods)) == (5000, 0, {2})
    assert max(wait for _, wait in outcome.waits) < 0.2


def test_a_stage_drops_what_has_waited_too_long() -> None:
    costs = Costs(work=0.01, start=1.0, idle=0.0)
    arrivals = np.arange(0, 100, 0.005)  # twice what one Pod serves
    outcome = simulate(autoscaler(most=1), costs, arrivals, seconds=100, cores=4, phase=0)
    assert len(outcome.waits) == pytest.approx(10_000, rel=0.01)
    assert outcome.missed == pytest.approx(4_000, rel=0.01), "the rest waits: all that came in 30 s"
