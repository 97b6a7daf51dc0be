"""One ranking from meaning and words."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.ranking.lexical import TermStatistics, WeightedTerm, weigh_terms
from services.retriever.ranking.ranker import Candidate, Ranked, RankOptions, rank
from shared.analysis.terms import document_terms, question_terms
from shared.contracts.retrieval import Fusion, SearchMode


def candidate(name: str, text: str, similarity: float | None = 0.5) -> Candidate:
    vector = None if similarity is None else np.array([similarity, (1 - similarity**2) ** 0.5], dtype=np.float32)
    return Candidate(
        key=name,
        document_id=name,
        position=0,
        terms=" ".join(document_terms(text)),
        similarity=similarity,
        vector=vector,
    )


def weighted(question: str, frequencies: dict[str, int] | None = None, passages: int = 1000) -> list[WeightedTerm]:
    """Terms that are each in 10 passages, where nothing else is said of one of their forms."""
    terms = question_terms(question)
    known = {form: 10 for term in terms for form in term.forms} | (frequencies or {})
    return weigh_terms(terms, TermStatistics(passages, 10.0, known))


def ranked(
    question: str, candidates: list[Candidate], *, top_k: int = 10, frequencies: dict[str, int] | None = None, **options
) -> list[Ranked]:
    return rank(candidates, weighted(question, frequencies), 10.0, options=RankOptions(**options), top_k=top_k)


def keys(found: list[Ranked]) -> list[str]:
    return [one.candidate.key for one in found]


SIBLINGS = [candidate(f"p{n}", f"Part PPR-{9060 + n} is a gasket of {n} mm.", 0.6 - n / 1000) for n in range(40)]


def test_what_a_question_names_comes_first_however_near_its_siblings_are() -> None:
    for n in range(40):
        found = ranked(
            f"What size is gasket PPR-{9060 + n}?", SIBLINGS, frequencies={f"ppr{9060 + n}": 1, "gasket": 40}
        )
        assert keys(found)[0] == f"p{n}"
        assert found[0].score > found[1].score + 0.1


def test_a_common_identifier_names_nothing() -> None:
    rare, common = weighted("PPR-9060", {"ppr9060": 1}), weighted("PPR-9060", {"ppr9060": 500})
    assert [term.names_something for term in rare] == [True, False, False]
    assert not any(term.names_something for term in common)


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    found = ranked(
        "common rare",
        [candidate("common", "common words here"), candidate("rare", "rare words here")],
        frequencies={"common": 900, "rare": 2},
    )
    assert keys(found) == ["rare", "common"]
    assert found[0].coverage > 0.9


def test_one_spelling_of_a_compound_counts_only_where_the_collection_has_it() -> None:
    assert [term.term.text for term in weighted("well-known", {"wellknown": 0})] == ["well", "known"]
    assert [term.term.text for term in weighted("well-known", {"wellknown": 1})] == ["well-known", "well", "known"]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_weight_says_how_much_meaning_counts(weight: float) -> None:
    near, wordy = candidate("near", "other", 0.9), candidate("wordy", "apple apple", 0.1)
    found = ranked("apple", [near, wordy], dense_weight=weight)
    assert keys(found)[0] == ("near" if weight > 0.5 else "wordy")


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.8), (0.2, 0.4), (0.75, 0.8)])
def test_the_order_does_not_depend_on_the_scale_of_a_models_similarities(low: float, high: float) -> None:
    texts = ["fig", "apple", "pear", "apple pear", "fig fig", "plum", "apple fig"]
    candidates = [candidate(f"{n}", text, low + (high - low) * n / len(texts)) for n, text in enumerate(texts)]
    assert keys(ranked("apple", candidates)) == ["6", "5", "3", "4", "1", "2", "0"]


def test_scores_lie_between_0_and_1_in_every_mode() -> None:
    candidates = [candidate("a", "apple", 1.0), candidate("b", "pear", -0.5), candidate("c", "apple pear", 0.2)]
    for mode in SearchMode:
        for fusion in Fusion:
            found = ranked("apple", candidates, mode=mode, fusion=fusion)
            assert all(0 <= one.score <= 1 for one in found), (mode, fusion)
            assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_by_words_alone_only_what_shares_a_word_is_found() -> None:
    candidates = [candidate("a", "apple", None), candidate("b", "pear", None)]
    assert keys(ranked("apple", candidates, mode=SearchMode.TEXT)) == ["a"]
    assert ranked("?!", candidates, mode=SearchMode.TEXT) == []


def test_equal_scores_are_ordered_by_document_and_position() -> None:
    candidates = [candidate(name, "same", 0.5) for name in "cab"]
    assert keys(ranked("same", candidates)) == ["a", "b", "c"]


COPY = "Expense rules. Travel expenses are claimed with form T5 within a month. Keep all receipts for travel expenses."
OTHER = "The limit for a hotel night on business travel is 120 crowns; meals are paid up to 40 crowns a day."


def test_copies_count_once_and_are_listed_with_the_first() -> None:
    copies = [candidate(f"copy{n}", COPY, 0.8) for n in range(10)]
    found = ranked("travel expenses limits", [*copies, candidate("limits", OTHER, 0.6)], top_k=5, fold_copies=True)
    assert keys(found) == ["copy0", "limits"]
    assert [copy.key for copy in found[0].copies] == [f"copy{n}" for n in range(1, 10)]


def test_what_differs_in_a_number_is_no_copy() -> None:
    found = ranked("gasket", SIBLINGS, top_k=40, fold_copies=True)
    assert len(found) == 40


def test_diversity_puts_what_is_new_before_what_repeats() -> None:
    same = [candidate(f"same{n}", "apple", 0.80 - n / 1000) for n in range(3)]
    new = Candidate(
        key="new",
        document_id="new",
        position=0,
        terms="apple",
        similarity=0.6,
        vector=np.array([0.6, -0.8], dtype=np.float32),
    )
    assert keys(ranked("apple", [*same, new], top_k=2))[1] == "same1"
    assert keys(ranked("apple", [*same, new], top_k=2, diversity=0.5))[1] == "new"


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.text("abcd ", max_size=12)), max_size=30),
    st.text("abcd ", max_size=8),
    st.sampled_from(SearchMode),
    st.sampled_from(Fusion),
    st.booleans(),
    st.sampled_from([0.0, 0.4]),
)
def test_fewer_passages_are_the_beginning_of_more(
    given_: list[tuple[float, str]], question: str, mode: SearchMode, fusion: Fusion, fold: bool, diversity: float
) -> None:
    candidates = [candidate(f"{n:02}", text, similarity) for n, (similarity, text) in enumerate(given_)]
    options = {"mode": mode, "fusion": fusion, "fold_copies": fold, "diversity": diversity}
    many = ranked(question, candidates, top_k=20, **options)
    for few in (1, 5):
        assert keys(ranked(question, candidates, top_k=few, **options)) == keys(many)[:few]


def test_a_word_that_follows_itself_counts_as_often_as_it_is_there() -> None:
    apart, together = ranked("apple", [candidate("b", "apple pear apple"), candidate("a", "apple apple pear")])
    assert apart.score == together.score


@given(st.lists(st.sampled_from([0.2, 0.4, 0.6]), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_each_group_of_equal_scores_is_ordered_by_document(similarities: list[float], dice: Random) -> None:
    names = [f"d{number:02}" for number in range(len(similarities))]
    dice.shuffle(names)
    candidates = [candidate(name, "alike", near) for name, near in zip(names, similarities, strict=True)]
    expected = sorted(zip(names, similarities, strict=True), key=lambda pair: (-pair[1], pair[0]))
    assert keys(ranked("alike", candidates, top_k=12)) == [name for name, _ in expected]
