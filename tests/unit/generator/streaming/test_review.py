"""What an answer's review sends: all of it, only what is supported, or with the citations added."""

import pytest

from services.generator.engines.base import PromptPassage, TextDelta
from services.generator.grounding.support import CheckedBy, SupportChecker
from services.generator.streaming.review import Review
from services.generator.streaming.sentence_stream import SentenceStream
from shared.contracts.generation import Unsupported

pytestmark = pytest.mark.anyio

PASSAGES = (
    PromptPassage(index=1, text="The blue lamp was built in 1911.", document="a.md"),
    PromptPassage(index=2, text="The red lamp burns oil.", document="b.md"),
)
ANSWER = "The red lamp burns oil. It was sold in 1950. The blue lamp was built in 1911 [1]. Nobody"
SUPPORTED = "The red lamp burns oil. The blue lamp was built in 1911 [1]."


def review(policy: Unsupported = Unsupported.MARK, **options: object) -> Review:
    return Review(SupportChecker(PASSAGES), [1, 2], policy, **options)  # type: ignore[arg-type]


async def sent(reviewing: Review, answer: str, size: int = 3) -> list[str]:
    """What is sent of an answer in pieces of `size` characters."""
    pieces = []
    for start in range(0, len(answer), size):
        pieces += await reviewing.feed(TextDelta(text=answer[start : start + size], tokens=(start,)))
    return [piece.text for piece in [*pieces, *await reviewing.flush()] if piece.text]


async def test_marked_sentences_are_sent_at_once() -> None:
    marking = review()

    assert await sent(marking, ANSWER) == [ANSWER[i : i + 3] for i in range(0, len(ANSWER), 3)]
    verdicts = (await marking.end()).verdicts
    assert [verdict.supported for verdict in verdicts] == [True, False, True, False]
    assert [ANSWER[verdict.start : verdict.end] for verdict in verdicts] == [verdict.sentence for verdict in verdicts]


@pytest.mark.parametrize("size", [1, 7, 200])
async def test_unsupported_sentences_are_left_out_and_reported(size: int) -> None:
    dropping = review(Unsupported.DROP)
    text = "".join(await sent(dropping, ANSWER, size))
    reviewed = await dropping.end()

    assert text == SUPPORTED
    assert [verdict.sentence for verdict in reviewed.verdicts if not verdict.supported] == [
        "It was sold in 1950.",
        "Nobody",
    ]
    assert all(verdict.start == verdict.end for verdict in reviewed.verdicts if not verdict.supported)
    kept = [verdict for verdict in reviewed.verdicts if verdict.supported]
    assert [text[verdict.start : verdict.end] for verdict in kept] == [verdict.sentence for verdict in kept]
    assert reviewed.cited == (1,)
    assert reviewed.unsupported == 0.5


async def test_a_supported_sentence_without_a_citation_gets_that_of_its_source() -> None:
    attributing = review(attribute=True)
    text = "".join(await sent(attributing, ANSWER))
    reviewed = await attributing.end()

    assert text == ANSWER.replace("oil.", "oil. [2]")
    assert reviewed.cited == (2, 1)
    assert reviewed.verdicts[0].sentence == "The red lamp burns oil. [2]"
    assert reviewed.verdicts[0].sources == (2,)


async def test_a_review_goes_on_after_what_the_reader_has() -> None:
    shown, rest = SUPPORTED[:40], SUPPORTED[40:]
    continued = review(shown=shown)
    await sent(continued, rest)

    assert [verdict.supported for verdict in (await continued.end()).verdicts] == [True, True]


async def test_quotes_are_supported_by_what_they_cite() -> None:
    quoting = review(Unsupported.DROP, quotes=True)
    assert "".join(await sent(quoting, "Anything at all 99 [2]. The rest")) == "Anything at all 99 [2]. The rest"
    reviewed = await quoting.end()

    assert [(verdict.supported, verdict.sources) for verdict in reviewed.verdicts] == [(True, (2,)), (True, ())]
    assert reviewed.by is CheckedBy.QUOTES


def test_no_text_and_no_token_is_lost_between_sentences() -> None:
    stream = SentenceStream()
    deltas = [TextDelta(text=letter, tokens=(i,)) for i, letter in enumerate(ANSWER)]
    pieces = [piece for delta in deltas for piece in stream.feed(delta)] + stream.flush()

    assert "".join(piece.text for piece in pieces) == ANSWER
    assert [token for piece in pieces for token in piece.tokens] == list(range(len(ANSWER)))
    assert len(pieces) == 4
