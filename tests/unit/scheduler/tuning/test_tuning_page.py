"""The page of a tuning."""

from tests.harness.pages import check_page
from tests.harness.search_reports import tuning_page


def test_it_shows_each_option_that_was_searched_and_how_much_it_matters() -> None:
    text = tuning_page(24)
    check_page(text)
    for option in ("mode", "fusion", "dense_weight", "diversity", "rerank_candidates", "chunks"):
        assert f'by {option}">' in text
    assert "Importance of options: rerank_candidates" in text
    assert "Judged among the trials that set them alone: " in text
    assert "1 question failed" in text
    assert "Where is &lt;b&gt;1&lt;/b&gt;?" in text


def test_too_few_trials_are_said_to_be_too_few() -> None:
    text = tuning_page(4)
    check_page(text)
    assert "Nothing can be said of it. 4 trials are too few: it takes 10." in text
    assert "Importance of options:" not in text
