"""Which other predictor has a model, as they tell it, and how often something is used."""

import pytest

from services.predictor.peers.directory import LOST_SECONDS, PeerDirectory
from services.predictor.peers.messages import LoadedModels, short_name
from services.predictor.repository.use_rate import MEMORY_SECONDS, UseRate

MODELS = frozenset({short_name("m", "1")})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_holder_is_one_that_told_it_lately(clock: Clock) -> None:
    directory = PeerDirectory("b", clock)
    assert directory.holder("m", "1") is None
    directory.hear(LoadedModels(predictor="a", models=MODELS))
    assert directory.holder("m", "1") == "a"
    assert directory.holder("m", "2") is None
    clock.now += LOST_SECONDS
    assert directory.holder("m", "1") is None
    assert not directory.is_alive("a")


def test_what_was_told_last_counts(clock: Clock) -> None:
    directory = PeerDirectory("b", clock)
    directory.hear(LoadedModels(predictor="a", models=MODELS))
    directory.hear(LoadedModels(predictor="a"))
    assert directory.holder("m", "1") is None


def test_one_that_leaves_takes_no_calls_and_finishes_those_it_has(clock: Clock) -> None:
    directory = PeerDirectory("b", clock)
    directory.hear(LoadedModels(predictor="a", models=MODELS, leaving=True))
    assert directory.holder("m", "1") is None
    assert directory.is_alive("a")


def test_a_predictor_does_not_hear_itself(clock: Clock) -> None:
    directory = PeerDirectory("b", clock)
    directory.hear(LoadedModels(predictor="b", models=MODELS))
    assert directory.holder("m", "1") is None
    assert not directory.is_spare("m", "1")


def test_of_two_copies_one_is_spare(clock: Clock) -> None:
    spare = []
    for own, other in (("a", "b"), ("b", "a")):
        directory = PeerDirectory(own, clock)
        directory.hear(LoadedModels(predictor=other, models=MODELS))
        spare.append(directory.is_spare("m", "1"))
    assert spare == [False, True]


def test_a_rate_of_use_comes_near_the_true_one_and_fades(clock: Clock) -> None:
    rate = UseRate(clock)
    for _ in range(1_000):
        clock.now += 0.1
        rate.count()
    assert rate.per_second == pytest.approx(10, rel=0.1)
    clock.now += 5 * MEMORY_SECONDS
    assert rate.per_second < 0.1
