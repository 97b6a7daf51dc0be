"""Whether a version does worse than the live one."""

import random

import pytest

from services.scheduler.canaries.judgement import Phase, difference_low
from services.scheduler.canaries.judgement import worse as worse_in
from shared.contracts.canaries import VersionCounts
from shared.contracts.jobs import CanarySpec

SPEC = CanarySpec(collection="docs", version="v2")


def counts(
    answered: int, failed: int = 0, declined: int = 0, up: int = 0, down: int = 0, *, seconds: float = 0.1
) -> VersionCounts:
    found = VersionCounts(failed=failed, up=up, down=down)
    for number in range(answered):
        found = found.with_answer(seconds, declined=number < declined)
    return found


def worse(version: VersionCounts, live: VersionCounts, spec: CanarySpec) -> str | None:
    """What is worse in a single phase."""
    return worse_in([Phase(canary=version, live=live)], spec)


def test_a_version_of_which_everything_fails_is_known_after_a_few_questions() -> None:
    reason = worse(counts(0, failed=5), counts(200), SPEC)
    assert reason is not None
    assert reason.startswith("100.0% (5 of 5) of its questions failed, and 0.0% (0 of 200) of the live version's")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (counts(100, declined=60), "were declined"),
        (counts(100, up=5, down=60), "were rated down"),
        (counts(80, failed=20), "failed"),
    ],
)
def test_what_the_version_does_worse_is_named(bad: VersionCounts, words: str) -> None:
    reason = worse(bad, counts(1000, failed=5, declined=100, up=90, down=30), SPEC)
    assert reason is not None
    assert words in reason


def test_what_both_do_alike_is_not_worse() -> None:
    both = counts(300, failed=60, declined=100, up=10, down=60)
    assert worse(both, both, SPEC) is None


def test_one_failure_proves_nothing() -> None:
    assert worse(counts(10, failed=1), counts(1000), SPEC) is None


def test_without_questions_nothing_is_worse() -> None:
    assert worse(VersionCounts(), VersionCounts(), SPEC) is None
    assert worse(counts(0, failed=5), VersionCounts(), SPEC) is None


def test_answers_that_take_longer_are_worse_beyond_a_factor() -> None:
    live = counts(200, seconds=0.09)
    assert worse(counts(100, seconds=0.14), live, SPEC) is None
    reason = worse(counts(100, seconds=0.4), live, SPEC)
    assert reason is not None
    assert "took longer than 0.15 s" in reason


def test_a_version_that_is_equal_is_seldom_called_worse_however_often_it_is_looked_at() -> None:
    draw = random.Random(7)
    wrong = 0
    for _ in range(200):
        sides = [VersionCounts(), VersionCounts()]
        for _ in range(60):
            for place in (0, 1):
                failed = sum(draw.random() < 0.05 for _ in range(10))
                sides[place] = sides[place].model_copy(
                    update={"answered": sides[place].answered + 10 - failed, "failed": sides[place].failed + failed}
                )
            if worse(sides[0], sides[1], SPEC) is not None:
                wrong += 1
                break
    assert wrong <= 2


def test_the_interval_of_a_difference_is_newcombes(monkeypatch: pytest.MonkeyPatch) -> None:
    # An example of the paper, table II: 56 of 70 and 48 of 80, whose 95 % interval by this method begins at 0.0524.
    monkeypatch.setattr("services.scheduler.canaries.judgement.DEVIATIONS", 1.959964)
    assert difference_low([((56, 70), (48, 80))]) == pytest.approx(0.0524, abs=5e-5)


@pytest.mark.parametrize(
    "bad",
    [counts(50, failed=50), counts(100, declined=90), counts(100, down=50), counts(100, seconds=4.0)],
    ids=["failures", "declined questions", "thumbs down", "slow answers"],
)
def test_a_time_that_is_bad_for_both_makes_neither_worse(bad: VersionCounts) -> None:
    good = Phase(canary=counts(250, up=25), live=counts(4750, up=475))
    phases = [good, Phase(canary=bad, live=bad), good]
    assert worse_in(phases, SPEC) is None
    together = [sum((getattr(phase, side) for phase in phases), VersionCounts()) for side in ("canary", "live")]
    assert worse(*together, SPEC) is not None, "of the canary's questions more were asked in that time"


def test_what_is_worse_in_each_phase_is_worse_in_all_together() -> None:
    phase = Phase(canary=counts(56, failed=4), live=counts(1000))
    assert worse_in([phase], SPEC) is None
    reason = worse_in([phase] * 4, SPEC)
    assert reason is not None
    assert reason.startswith("6.7% (16 of 240) of its questions failed, and 0.0% (0 of 4,000)")
