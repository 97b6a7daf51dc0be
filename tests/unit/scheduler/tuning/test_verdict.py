import random

from services.scheduler.tuning.verdict import verdict


def _separate(count: int) -> list[str]:
    return [f"d{n}" for n in range(count)]


def test_better_only_where_the_whole_interval_is_above_zero() -> None:
    assert verdict([0.5] * 40, [0.7] * 40, _separate(40), changed=True).better
    unsure = verdict([0.5] * 40, [1.0, 0.1] * 20, _separate(40), changed=True)
    assert unsure.difference.mean > 0
    assert not unsure.better
    assert unsure.text.startswith("The default stays: the best trial is not surely better. nDCG@10 +0.050")


def test_many_questions_about_few_documents_are_not_sure() -> None:
    """As separate questions the same scores would be."""
    chance = random.Random(0)
    gains = [chance.gauss(0.02, 0.06) for _ in range(25)]
    default, best = [0.5] * 250, [0.5 + gains[n % 25] for n in range(250)]
    assert verdict(default, best, _separate(250), changed=True).better
    assert not verdict(default, best, [f"d{n % 25}" for n in range(250)], changed=True).better


def test_the_same_scores_give_the_same_interval() -> None:
    scores = [n / 40 for n in range(40)]
    one, other = (verdict([0.3] * 40, scores, _separate(40), changed=True) for _ in range(2))
    assert one == other
    assert one.difference.low < one.difference.mean < one.difference.high


def test_the_default_that_is_best_stays() -> None:
    made = verdict([0.5] * 40, [0.5] * 40, _separate(40), changed=False)
    assert not made.better
    assert made.text == "The default stays: no trial was better than it on the questions to tune on."
