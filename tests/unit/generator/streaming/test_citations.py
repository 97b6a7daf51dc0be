"""Citations in a streamed answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.streaming.citations import LONGEST, CitationCleaner


def clean(deltas: list[str], sources: int = 3) -> tuple[str, tuple[int, ...]]:
    cleaner = CitationCleaner(range(1, sources + 1))
    text = "".join([cleaner.feed(delta) for delta in deltas]) + cleaner.flush()
    return text, cleaner.used


@pytest.mark.parametrize(
    ("text", "expected", "used"),
    [
        ("Yes [1]. No [9].", "Yes [1]. No.", (1,)),
        ("Both [2][3][4] and [1, 7].", "Both [2][3] and [1].", (2, 3, 1)),
        ("Zero [0], huge [12345678901].", "Zero, huge.", ()),
        ("A list [ 1 ] or [a] or [] or [1", "A list [ 1 ] or [a] or [] or [1", ()),
        ("Take `items[9]` and ```x[8]``` but not [9].", "Take `items[9]` and ```x[8]``` but not.", ()),
        ("Nested [[2]] and [[9]].", "Nested [[2]] and [].", (2,)),
        ("Ends with a space ", "Ends with a space ", ()),
        ("[" + "1," * LONGEST + "1]", "[" + "1," * LONGEST + "1]", ()),
    ],
)
def test_only_citations_of_sources_stay(text: str, expected: str, used: tuple[int, ...]) -> None:
    assert clean([text]) == (expected, used)


fragments = st.lists(
    st.sampled_from(["[1]", " [2]", "[9]", "[1, 9]", "[", "]", "1", "42", ",", ";", " ", "  ", "`", "a", "B. "]),
    max_size=25,
).map("".join)


@given(fragments, st.data())
def test_any_cut_of_the_text_into_deltas_gives_the_same_result(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    deltas = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert clean(deltas) == clean([text]) == clean(list(text))


@given(fragments)
def test_what_is_held_back_is_short_and_never_lost(text: str) -> None:
    cleaner = CitationCleaner(())
    shown = ""
    for character in text:
        shown += cleaner.feed(character)
        assert len(cleaner._held) <= LONGEST + 2
    assert [c for c in shown + cleaner.flush() if c.isalpha()] == [c for c in text if c.isalpha()]


def test_text_without_brackets_is_passed_on_at_once() -> None:
    cleaner = CitationCleaner([1])

    assert cleaner.feed("Hello") == "Hello"
    assert cleaner.feed(" world [1") == " world"
    assert cleaner.feed("] and") == " [1] and"


def test_only_the_given_sources_may_be_cited() -> None:
    cleaner = CitationCleaner([1, 3])

    assert cleaner.feed("Yes [1][2], also [2, 3].") == "Yes [1], also [3]."
    assert cleaner.used == (1, 3)


pieces = st.lists(
    st.sampled_from(
        ["[1]", " [2]", "[9]", " [9]", "[1, 9]", "1", "42", ",", ";", " ", "  ", "`", "a", "B. ", "\n", "[x"]
    ),
    max_size=25,
)


@given(pieces, st.integers(0, 25))
def test_an_answer_that_is_gone_on_with_is_cleaned_like_one_that_was_never_interrupted(
    deltas: list[str], cut: int
) -> None:
    whole = CitationCleaner(range(1, 4))
    first = CitationCleaner(range(1, 4))
    given = "".join(first.feed(delta) for delta in deltas[:cut])
    second = CitationCleaner(range(1, 4))
    second.resume(given)
    rest = first._held + "".join(deltas[cut:])

    text = "".join(whole.feed(delta) for delta in deltas) + whole.flush()
    assert given + second.feed(rest) + second.flush() == text
    assert second.used == whole.used
