from typing import Any

import pytest

from services.scheduler.datasets.negatives import NegativeOptions, Skipped, Terms, choose_negatives
from shared.contracts.envelope import Passage, PassageCopy

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def _passage(document: str, similarity: float, text: str = "", copies: tuple[str, ...] = ()) -> Passage:
    return Passage(
        id=document,
        document_id=document,
        document=document,
        position=0,
        text=text or f"The passage of {document} has words of its own: {document}.",
        similarity=similarity,
        copies=tuple(PassageCopy(document_id=name, document=name, position=0) for name in copies),
    )


POSITIVE = _passage("right", 0.8)


def _options(**members: Any) -> NegativeOptions:
    return NegativeOptions(**{"count": 4, "relative_margin": 0.05, "range_min": 0, "range_max": 50} | members)


def _chosen(ranked: list[Passage], *, options: NegativeOptions | None = None, **members: Any) -> list[str]:
    return _choice(ranked, options=options, **members)[0]


def _choice(ranked: list[Passage], *, options: NegativeOptions | None = None, **members: Any) -> Any:
    usual = {"relevant": {"right"}, "right": [POSITIVE.text], "terms": Terms()}
    texts, skipped = choose_negatives(ranked, POSITIVE, options or _options(), **usual | members)
    known = {passage.text: passage.document for passage in [*ranked, *members.get("wrong", ())]}
    return [known[text] for text in texts], skipped


def test_what_is_nearer_than_the_margin_allows_is_no_negative() -> None:
    ranked = [_passage("amber", 0.79), _passage("brick", 0.761), _passage("cedar", 0.76), _passage("denim", 0.3)]
    assert _chosen(ranked) == ["cedar", "denim"]
    assert _chosen(ranked, options=_options(relative_margin=0.0)) == ["amber", "brick", "cedar", "denim"]
    assert _chosen(ranked, options=_options(relative_margin=0.5)) == ["denim"]
    assert _choice(ranked)[1] == {Skipped.NEAR: 2}


@pytest.mark.parametrize(("positive", "limit"), [(0.8, 0.76), (0.0, 0.0), (-0.2, -0.21)])
def test_the_margin_is_below_the_positive_also_where_that_is_negative(positive: float, limit: float) -> None:
    assert _options().limit(positive) == pytest.approx(limit)


def test_the_ranks_are_those_of_the_search() -> None:
    ranked = [_passage(name, 0.5) for name in NUMBERS]
    assert _chosen(ranked) == NUMBERS[:4]
    assert _chosen(ranked, options=_options(range_min=2, range_max=5)) == NUMBERS[2:5]
    assert _chosen(ranked, options=_options(count=0)) == []


def test_documents_that_answer_and_copies_of_them_are_no_negatives() -> None:
    ranked = [
        _passage("right", 0.5, "Another passage of it"),
        _passage("too", 0.5),
        _passage("mirror", 0.5, copies=("right",)),
        _passage("other", 0.5, POSITIVE.text),
        _passage("near", 0.5, f"{POSITIVE.text} The passage."),
        _passage("fine", 0.5),
        _passage("again", 0.5, _passage("fine", 0.5).text),
    ]
    found, skipped = _choice(ranked, relevant={"right", "too"})
    assert found == ["again"], "by its text the last one: it is the same as the one before"
    assert skipped == {Skipped.RELEVANT: 3, Skipped.COPY: 3}


def test_documents_of_the_test_side_and_copies_of_them_are_no_negatives() -> None:
    ranked = [_passage("held-out", 0.5), _passage("mirror", 0.5, copies=("held-out",)), _passage("fine", 0.5)]
    found, skipped = _choice(ranked, forbidden={"held-out"})
    assert (found, skipped) == (["fine"], {Skipped.TEST: 2})


def test_what_readers_found_wrong_comes_first_whatever_its_similarity() -> None:
    wrong = [_passage("judged", 0.99), _passage("right", 0.9, "of the document itself")]
    assert _chosen([_passage("amber", 0.5), _passage("judged", 0.99)], wrong=wrong) == ["judged", "amber"]


def test_last_bits_of_similarities_decide_nothing() -> None:
    assert _chosen([_passage("amber", 0.76 + 1e-6)]) == _chosen([_passage("amber", 0.76 - 1e-6)]) == ["amber"]
