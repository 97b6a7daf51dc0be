"""The page of a sweep."""

from tests.harness.pages import check_page
from tests.harness.search_reports import SWEPT, sweep_page


def test_it_shows_what_came_of_the_trials_and_what_matters() -> None:
    text = sweep_page(24)
    check_page(text)
    assert '<h2 class="good">Best on the validation rows: learning_rate' in text
    assert "<td>validation rows</td>" in text
    assert "<td>test rows</td>" in text
    for option in SWEPT:
        assert f'by {option}">' in text
    assert "Importance of options: learning_rate" in text
    assert "loss by step of best trial and default" in text
    assert "nDCG@10 of 24 trials" in text


def test_what_failed_is_shown_with_the_reason_and_nothing_of_it_is_markup() -> None:
    text = sweep_page(6)
    check_page(text)
    assert "6 trials, of which 1 failed" in text
    assert "failed: The loss is not a number: &lt;script&gt;alert(1)&lt;/script&gt; &amp; &#x27;quotes&#x27;" in text
    assert text.index("failed: The loss") > text.index("s1-trial6")
    assert "5 trials are too few" in text


def test_a_default_that_is_best_is_said_to_be() -> None:
    text = sweep_page(2, space={"learning_rate": {"low": 1e-7, "high": 2e-7}})
    check_page(text)
    assert '<h2 class="muted">No trial was better than the default on the validation rows.</h2>' in text
    assert "The default is the best trial." in text


def test_of_perplexities_the_lowest_is_best() -> None:
    text = sweep_page(
        12, train={"target": "adapter", "dataset": "d1", "base": "/m"}, space={"learning_rate": SWEPT["learning_rate"]}
    )
    check_page(text)
    assert "The perplexity on the validation rows, the less the better" in text
    assert "perplexity of 12 trials; the best has 5." in text


def test_a_temperature_is_judged_among_the_trials_that_have_one() -> None:
    train = {"target": "embedder", "dataset": "d1", "teacher": "m-0123456789ab"}
    space = {
        "loss": ["kl-divergence", "margin-mse"],
        "temperature": {"low": 0.01, "high": 0.1},
        "learning_rate": SWEPT["learning_rate"],
    }
    text = sweep_page(30, train=train, space=space)
    check_page(text)
    assert "Judged among the trials that set them alone: temperature with losses that have one." in text
