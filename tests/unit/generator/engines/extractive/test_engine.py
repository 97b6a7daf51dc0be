"""The extractive engine on real prose: the Python language reference that every interpreter carries."""

import re
from pydoc_data.topics import topics

import pytest

from services.generator.engines.base import (
    Finish,
    FinishReason,
    Prompt,
    PromptPassage,
    TextDelta,
)
from services.generator.engines.extractive.engine import CLOSEST, ExtractiveConfig, ExtractiveEngine
from services.generator.grounding.decline import NO_ANSWER, NOTHING_FOUND
from shared.contracts.generation import GenerateParams

pytestmark = pytest.mark.anyio

PAGES = ("truth", "del", "global", "assert", "break", "lambda", "pass", "raise", "nonlocal", "with")


def pages() -> tuple[PromptPassage, ...]:
    return tuple(
        PromptPassage(index=index, text=topics[name][:1500], document=f"{name}.rst")
        for index, name in enumerate(PAGES, start=1)
    )


def passages(*texts: str) -> tuple[PromptPassage, ...]:
    return tuple(PromptPassage(index=index, text=text, document="d") for index, text in enumerate(texts, start=1))


async def answer(
    question: str, given: tuple[PromptPassage, ...], *, max_tokens: int = 512, **config: int
) -> tuple[str, Finish]:
    engine = ExtractiveEngine(ExtractiveConfig(**config))
    params = GenerateParams(max_tokens=max_tokens)
    prepared = await engine.prepare(Prompt(question=question, passages=given, params=params))
    items = [item async for item in engine.generate(prepared)]
    text = "".join(item.text for item in items if isinstance(item, TextDelta))
    assert isinstance(items[-1], Finish)
    return text, items[-1]


@pytest.mark.parametrize(
    ("question", "words", "page"),
    [
        ("When is an object considered true?", "an object is considered true unless its class defines", "truth"),
        ("What happens when I delete an unbound name?", 'a "NameError" exception will be raised', "del"),
        ("What does deletion of a name remove?", "removes the binding of that name", "del"),
        ("What is the global statement?", "is a declaration which holds for the entire current code block", "global"),
        ("How do I insert debugging assertions into a program?", "convenient way to insert debugging", "assert"),
        ("Where may break occur?", '"break" may only occur syntactically nested in a "for" or "while" loop', "break"),
        ("What are lambda expressions used for?", "used to create anonymous functions", "lambda"),
        ("What does the pass statement do when it is executed?", "is a null operation", "pass"),
        ("What is raised when there is no active exception to re-raise?", 'a "RuntimeError" exception', "raise"),
        ("What is the with statement used for?", "used to wrap the execution of a block", "with"),
        ("What does the nonlocal statement do to identifiers?", "to refer to previously bound variables", "nonlocal"),
    ],
)
async def test_the_sentence_with_the_answer_is_quoted_and_cited(question: str, words: str, page: str) -> None:
    text, _ = await answer(question, pages())

    quoted = [piece for piece in re.split(r"(?<=\])\s", text) if words in piece]
    assert quoted, text
    assert quoted[0].endswith(f"[{PAGES.index(page) + 1}]")


async def test_every_citation_points_at_a_passage_that_was_given() -> None:
    text, _ = await answer("What is considered false?", passages("Zero is considered false. [7] So is [] and None."))

    assert set(re.findall(r"\[(\d+)\]", text)) == {"1"}


async def test_the_same_prompt_gives_the_same_answer() -> None:
    assert await answer("What may be deleted?", pages()) == await answer("What may be deleted?", pages())


async def test_a_question_that_the_passages_do_not_touch_is_told_so() -> None:
    text, finish = await answer("Who won the football championship?", passages("Bread is made of flour."))

    assert text == NO_ANSWER
    assert finish.reason is FinishReason.STOP


async def test_a_weak_match_is_told_to_be_one_and_quoted() -> None:
    text, _ = await answer(
        "Which parental leave policy applies to contractors abroad?", passages("The policy was printed on paper.")
    )

    assert text == f"{NO_ANSWER}{CLOSEST}The policy was printed on paper. [1]"


async def test_without_passages_it_says_that_nothing_was_found() -> None:
    text, _ = await answer("Anything?", ())

    assert text == NOTHING_FOUND


async def test_a_question_of_stop_words_alone_gets_an_honest_answer() -> None:
    text, _ = await answer("What is it?", passages("Bread is made of flour."))

    assert text == NO_ANSWER


async def test_near_duplicates_are_quoted_once() -> None:
    text, _ = await answer(
        "How much does shipping cost?",
        passages("Shipping costs 5 euros.", "Shipping costs 5 euros!", "The shipping costs: 5 euros."),
    )

    assert text == "Shipping costs 5 euros. [1]"


async def test_quotes_keep_to_the_limits_and_say_when_length_cut_them() -> None:
    text, finish = await answer(
        "How long is the warranty?", passages("The warranty is long, " + "very " * 500 + "long."), characters=100
    )

    assert len(text) < 120
    assert text.endswith("… [1]")
    assert finish.reason is FinishReason.LENGTH

    two = passages("The warranty lasts two years.", "A warranty lasts three years in Norway.")
    text, finish = await answer("How long does the warranty last?", two, max_tokens=10)
    assert text.count("[") == 1
    assert finish.reason is FinishReason.LENGTH


async def test_a_table_row_is_quoted_with_the_names_of_its_columns() -> None:
    table = "| Plan | Seats |\n|---|---|\n| Team | 10 |\n| Enterprise | 250 |\n"

    text, _ = await answer("How many seats has the enterprise plan?", passages(table))

    assert text.startswith("Plan: Enterprise; Seats: 250 [1]")


async def test_long_passages_are_scored_off_the_event_loop_with_the_same_result() -> None:
    filler = "Nothing of interest is said here. " * 300

    text, _ = await answer("What colour is the door?", passages(filler, "The door is green.", filler))

    assert text == "The door is green. [2]"


async def test_an_example_that_repeats_the_question_is_no_answer() -> None:
    text, _ = await answer(
        "How are chunks cut?",
        passages(
            'Ask for it:\n\n```\ncurl -d \'{"question": "How are chunks cut?"}\'\n```',
            "Chunks are cut at paragraphs. The weather is fine today.",
        ),
        sentences=1,
    )
    assert text == "Chunks are cut at paragraphs. [2]"
