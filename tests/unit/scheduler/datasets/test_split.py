from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.datasets.examples import Correction, Example, Origin, Source
from services.scheduler.datasets.split import FEWEST_TEST, FEWEST_TRAIN, Split, split
from services.scheduler.datasets.state import digest_of
from services.scheduler.evaluation.groups import folded
from shared.contracts.problems import Problem, ProblemType


def _example(question: str, *documents: str, about: Sequence[str] = ()) -> Example:
    return Example(
        question=question,
        origin=Origin.QUESTIONS,
        sources=tuple(map(Source, documents)),
        corrections=(Correction("so", "not so", about=tuple(about)),) if about else (),
    )


def _many(count: int) -> list[Example]:
    return [_example(f"What is part {n}?", f"part-{n}") for n in range(count)]


def _split(examples: Sequence[Example], *, test_share: float = 0.3, seed: int = 0, limit: int = 10_000) -> Split:
    return split(examples, test_share=test_share, seed=seed, limit=limit)


names = st.one_of(st.integers(0, 60).map("part-{}".format), st.integers(0, 400).map("d{}".format))
examples = st.builds(
    lambda words, number, documents, about: _example(f"{words} {number}?", *documents, about=about),
    st.sampled_from(["Who", "who ", "WHAT", "what", "Where is it", "where  is it"]),
    st.integers(0, 100),
    st.lists(names, max_size=3, unique=True),
    st.lists(names, max_size=2, unique=True),
).filter(lambda example: bool(example.connected))


@given(st.lists(examples, max_size=30), st.integers(0, 3), st.sampled_from([0.1, 0.3, 0.7]), st.integers(60, 200))
def test_nothing_of_the_test_side_is_on_the_training_side(
    some: list[Example], seed: int, share: float, limit: int
) -> None:
    made = _split([*_many(120), *some], seed=seed, test_share=share, limit=limit)
    sides = [[example for example, _ in side] for side in (made.train, made.test)]
    documents = [{document for one in side for document in one.connected} for side in sides]
    questions = [{folded(one.question) for one in side} for side in sides]
    groups = [{group for _, group in side} for side in (made.train, made.test)]
    assert not documents[0] & documents[1]
    assert not questions[0] & questions[1]
    assert not groups[0] & groups[1]
    assert documents[1] <= made.test_documents
    assert not made.test_documents & documents[0]
    assert sum(map(len, sides)) == min(limit, 120 + len(some))


def test_the_share_holds_about_and_a_document_stays_on_its_side_as_the_set_grows() -> None:
    small, large = _split(_many(300)), _split(_many(600))
    assert len(large.test) / 600 == pytest.approx(0.3, abs=0.06)
    assert small.test_documents <= large.test_documents
    assert not small.test_documents & {example.documents[0] for example, _ in large.train}


def test_another_seed_is_another_split_and_the_order_of_the_input_does_not_matter() -> None:
    assert _split(_many(100)).test_documents != _split(_many(100), seed=1).test_documents
    assert _split(_many(100)[::-1]).test_documents == _split(_many(100)).test_documents


@pytest.mark.parametrize("share", [0.05, 0.9])
def test_each_side_has_the_groups_that_it_needs_whatever_the_share(share: float) -> None:
    made = _split(_many(FEWEST_TRAIN + FEWEST_TEST), test_share=share)
    assert (len(made.train), len(made.test)) == (FEWEST_TRAIN, FEWEST_TEST)


def test_a_limit_takes_the_same_questions_whatever_others_there_are() -> None:
    def taken(made: Split) -> set[str]:
        return {example.question for side in (made.train, made.test) for example, _ in side}

    assert len(taken(_split(_many(200), limit=50))) == 50
    assert taken(_split(_many(200), limit=50)) & taken(_split(_many(100), limit=100)) == {
        example.question for example in _many(100)
    } & taken(_split(_many(200), limit=50))
    assert _split(_many(200), limit=50).test_documents == _split(_many(200)).test_documents


def test_too_little_says_how_much_there_is_and_what_to_do() -> None:
    few = [*_many(12), _example("Which part?", "part-1"), _example("Whose?", about=["part-2"])]
    with pytest.raises(
        Problem, match=r"13 questions \(13 from sets\) about 12 separate documents, and it takes 30"
    ) as e:
        _split(few)
    assert e.value.kind is ProblemType.INVALID_REQUEST
    assert "sluice evaluate --generate" in str(e.value)
    with pytest.raises(Problem, match=r"0 questions about 0 separate documents"):
        _split([])


def test_a_digest_is_that_of_all_that_mining_goes_by() -> None:
    usual = _many(60)
    digest = digest_of(_split(usual))
    assert digest == digest_of(_split(usual))
    corrected = _example("What is part 7?", "part-7", about=["part-7"])
    erased = usual[:7] + usual[8:]
    assert len({digest, digest_of(_split(erased)), digest_of(_split([*erased, corrected]))}) == 3
    assert digest != digest_of(_split(usual, seed=1))
