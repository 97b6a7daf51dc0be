"""Tokens and log-probabilities travel with the text that they spell."""

from hypothesis import given
from hypothesis import strategies as st

from services.generator.engines.base import TextDelta
from services.generator.streaming.citation_stream import LONGEST_WAIT, CitationStream
from shared.contracts.generation import TokenLogprob, ToolCallDelta


def token(text: str) -> TextDelta:
    """A piece of one token for each character."""
    return TextDelta(text=text, tokens=tuple(map(ord, text)), logprobs=(TokenLogprob(token=text, logprob=-1.0),))


def run(texts: list[str], sources: int = 3) -> list[TextDelta]:
    citations = CitationStream(range(1, sources + 1))
    shown = [citations.feed(token(text)) for text in texts]
    return [delta for delta in [*shown, citations.flush()] if delta is not None]


def test_text_that_may_become_a_citation_takes_its_tokens_with_it() -> None:
    shown = run(["Yes", " [", "1", "].", " No"])

    assert [delta.text for delta in shown] == ["Yes", " [1].", " No"]
    assert [delta.tokens for delta in shown] == [tuple(map(ord, delta.text)) for delta in shown]
    assert [len(delta.logprobs) for delta in shown] == [1, 3, 1]


def test_a_piece_of_which_only_the_end_is_undecided_waits_as_a_whole() -> None:
    shown = run(["So [", "2] it is"])

    assert [delta.text for delta in shown] == ["So [2] it is"]


def test_pieces_that_all_end_undecided_are_shown_all_the_same() -> None:
    shown = run(["word "] * (3 * LONGEST_WAIT))

    assert len(shown) >= 3
    assert "".join(delta.text for delta in shown) == "word " * (3 * LONGEST_WAIT)


def test_text_without_tokens_is_shown_as_soon_as_it_is_decided() -> None:
    citations = CitationStream([1])

    assert citations.feed(TextDelta(text="Yes [1")) == TextDelta(text="Yes")
    assert citations.feed(TextDelta(text="]")) == TextDelta(text=" [1]")
    assert citations.flush() is None


def test_reasoning_and_tool_calls_pass_at_once() -> None:
    citations = CitationStream([1])
    call = ToolCallDelta(index=0, name="look")

    assert citations.feed(TextDelta(reasoning="Hm [9]")) == TextDelta(reasoning="Hm [9]")
    assert citations.feed(TextDelta(tool_calls=(call,))) == TextDelta(tool_calls=(call,))


def test_an_answer_gone_on_with_knows_what_was_cited_and_whether_it_is_in_code() -> None:
    citations = CitationStream([1, 2])
    citations.resume("As [2] says: `x")

    assert citations.feed(TextDelta(text="[9]` [9] [1]")) == TextDelta(text="[9]` [1]")
    assert citations.used == (2, 1)


@given(st.lists(st.sampled_from(["[1]", " [", "[9]", "1", "]", " ", "a", "b. ", "`", " c"]), max_size=40))
def test_no_token_and_no_text_is_lost_and_what_is_whole_is_exact(texts: list[str]) -> None:
    shown = run(texts, sources=9)

    assert "".join(delta.text for delta in shown) == "".join(texts)
    assert [t for delta in shown for t in delta.tokens] == [ord(c) for text in texts for c in text]
    assert sum(len(delta.logprobs) for delta in shown) == len(texts)
