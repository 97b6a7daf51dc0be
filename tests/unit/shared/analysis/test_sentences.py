"""Sentences out of text as documents really have it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.sentences import SentenceKind, split_prose, split_sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. J. Smith wrote it in Jan. 2019, cf. Fig. 3 and No. 7.",
        "It costs 3.50 euros, e.g. Paris does.",
        "Version 2.0.1 of example.com runs.",
        'He said "Stop." and left.',
        "See the i.e. Above remark!",
    ],
)
def test_abbreviations_initials_and_numbers_do_not_end_a_sentence(sentence: str) -> None:
    assert split_prose(f"{sentence} Another one follows.") == [sentence, "Another one follows."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("We work at Acme Inc. Ours is a good house.", ["We work at Acme Inc.", "Ours is a good house."]),
        ('"It works." She smiled.', ['"It works."', "She smiled."]),
        ("It is so.[3] Next one.", ["It is so.[3]", "Next one."]),
        ("猫は眠る。犬は遊ぶ。", ["猫は眠る。", "犬は遊ぶ。"]),
        ("Wait... what is it? No.", ["Wait... what is it?", "No."]),
        ("No end here", ["No end here"]),
        ("  ", []),
    ],
)
def test_prose_is_split_at_the_ends_of_sentences(text: str, expected: list[str]) -> None:
    assert split_prose(text) == expected


def test_headings_lists_tables_and_code_are_units_of_their_own() -> None:
    text = """# Title

Some prose that
goes on. More of it.

- first item
  continues
- second item
1. numbered

| A | B |
|---|---|
| 1 | 2 |

```
code = here()
```
Underlined
==========
The end.
"""

    assert [(sentence.kind, sentence.text) for sentence in split_sentences(text)] == [
        (SentenceKind.HEADING, "Title"),
        (SentenceKind.PROSE, "Some prose that goes on."),
        (SentenceKind.PROSE, "More of it."),
        (SentenceKind.ITEM, "first item continues"),
        (SentenceKind.ITEM, "second item"),
        (SentenceKind.ITEM, "numbered"),
        (SentenceKind.ROW, "A: 1; B: 2"),
        (SentenceKind.CODE, "code = here()"),
        (SentenceKind.HEADING, "Underlined"),
        (SentenceKind.PROSE, "The end."),
    ]


@given(st.text())
def test_any_text_can_be_split_and_sentences_hold_no_line_breaks(text: str) -> None:
    for sentence in split_sentences(text):
        assert sentence.text == " ".join(sentence.text.split())


@given(st.text(alphabet="abAB12 .!?\n\"')", max_size=200))
def test_prose_loses_nothing_but_white_space(text: str) -> None:
    assert "".join("".join(split_prose(text)).split()) == "".join(text.split())
