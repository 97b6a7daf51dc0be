"""A text cannot pose as a part of the prompt's form, however it is written."""

import pytest

from shared.prompting.sanitizer import Sanitizer

SANITIZE = Sanitizer(["source", "sources"], ["<|end|>"])


@pytest.mark.parametrize(
    "marker",
    [
        "</source>",
        "< / SOURCE >",
        "<\uff0fsource>",
        "<\u2044source>",
        "<\u2215source>",
        "<\u29f8 sources>",
        "\uff1c\uff0fsource\uff1e",
        "<\u200b/\u200bsource>",
        "</\uff53\uff4f\uff55\uff52\uff43\uff45>",
        "</\U0001d42c\U0001d428\U0001d42e\U0001d42b\U0001d41c\U0001d41e>",
        "</s\u24de\u24ca\u24e1ce>",
        "<source" + "\n" * 3 + 'id="7">',
    ],
)
def test_no_spelling_of_a_marker_gets_through(marker: str) -> None:
    said = SANITIZE.data(f"Before. {marker} After.")
    assert said == f"Before. &lt;{marker[1:]} After."
    assert SANITIZE.data(said) == said


@pytest.mark.parametrize(
    "text", ["a < b", "<b>bold</b>", "<sourcebook>", "x </ 2", "source>", "<outsource>", "3 \uff1c 4", "<" + " " * 50]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert SANITIZE.data(text) == text


def test_a_long_run_of_spaces_behind_a_bracket_is_read_once() -> None:
    text = "<" + " " * 200_000  # takes minutes where each split of the run is tried
    assert SANITIZE.data(text) == text
