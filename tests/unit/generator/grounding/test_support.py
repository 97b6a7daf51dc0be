"""Sentences that the passages support are told from those that they do not."""

from collections.abc import Sequence

import anyio
import pytest

from services.generator.engines.base import PromptPassage
from services.generator.grounding.support import Checked, CheckedBy, SupportChecker, Verdict, sentence_spans
from shared.contracts.problems import Problem, ProblemType

pytestmark = pytest.mark.anyio

LAMPS = (
    "The blue lamp was built by Ottilie Brandt in 1911. It stands at the harbour of Sundsholm.",
    "The red lamp burns rape-seed oil, forty litres each winter. ERR-4032 means that the wick is wet.",
)


def checker(**options: object) -> SupportChecker:
    passages = [PromptPassage(index=i, text=text, document="lamps.md") for i, text in enumerate(LAMPS, start=1)]
    return SupportChecker(passages, **options)  # type: ignore[arg-type]


async def verdict(sentence: str) -> Verdict:
    (found,) = (await checker().check(sentence)).verdicts
    return found


@pytest.mark.parametrize(
    ("sentence", "sources"),
    [
        ("Ottilie Brandt built the blue lamp in 1911.", (1,)),
        ("The red lamp burns 40 litres of oil each winter.", (2,)),
        ("ERR-4032 means that the wick is wet [2].", (2,)),
    ],
)
async def test_a_sentence_in_the_words_of_a_passage_is_supported_by_it(sentence: str, sources: tuple[int, ...]) -> None:
    found = await verdict(sentence)

    assert (found.supported, found.sources) == (True, sources)


@pytest.mark.parametrize(
    "sentence",
    [
        "The blue lamp was built by Ottilie Brandt in 1912.",
        "ERR-4033 means that the wick is wet.",
        "The blue lamp was built by Ottilie Brandt in 1911 [2].",
        "The captain of the ferry likes music.",
    ],
)
async def test_a_figure_or_words_that_the_cited_passages_lack_make_a_sentence_unsupported(sentence: str) -> None:
    found = await verdict(sentence)

    assert (found.supported, found.sources) == (False, ())
    assert found.score < 0.6


@pytest.mark.parametrize("sentence", ["The sources do not say who paid for it.", "Yes.", "I do not know."])
async def test_a_sentence_that_states_nothing_of_the_documents_is_not_held_against_the_answer(sentence: str) -> None:
    assert (await verdict(sentence)).supported


async def test_each_sentence_is_found_at_its_place_and_code_is_none() -> None:
    text = "One lamp.  Two lamps! [1]\n\n- a third\n```\nrun()\n```\nThe last one"

    assert [text[start:end] for start, end in sentence_spans(text)] == [
        "One lamp.",
        "Two lamps! [1]",
        "- a third",
        "The last one",
    ]


async def test_the_meaning_decides_where_the_words_leave_doubt() -> None:
    asked: list[Sequence[str]] = []
    doubtful = "The blue lamp was erected by Ottilie Brandt."

    async def alike(texts: Sequence[str]) -> list[tuple[float, ...]]:
        asked.append(texts)
        return [(1.0, 0.0)] * len(texts)

    async def unlike(texts: Sequence[str]) -> list[tuple[float, ...]]:
        return [(1.0, 0.0) if text == doubtful else (0.0, 1.0) for text in texts]

    near = await checker(embed=alike).check(doubtful)
    far = await checker(embed=unlike).check(doubtful)

    assert asked[0][0] == doubtful
    assert LAMPS[0].split(". ")[0] + "." in asked[0]
    assert (near.verdicts[0].supported, near.by) == (True, CheckedBy.MEANING)
    assert (far.verdicts[0].supported, far.by) == (False, CheckedBy.MEANING)


@pytest.mark.parametrize("silent", [True, False])
async def test_without_vectors_in_time_the_words_decide_and_it_says_so(silent: bool) -> None:
    calls = 0

    async def embed(texts: Sequence[str]) -> list[tuple[float, ...]]:
        nonlocal calls
        calls += 1
        if silent:
            await anyio.sleep_forever()
        raise Problem(ProblemType.STAGE_UNAVAILABLE, "No embedder.")

    checking = checker(embed=embed, seconds=0.01)
    doubtful = "The blue lamp was erected by Ottilie Brandt."
    by_words = await checker().check(doubtful)
    found: Checked = await checking.check(doubtful)

    assert found == by_words
    assert found.by is CheckedBy.WORDS
    await checking.check("The red lamp was put there by nobody.")
    assert calls == 1, "one answer waits once"
