"""Chunks become the text that they were cut from."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.ingestion.chunking.chunker import Chunker
from services.scheduler.ingestion.parsing import Section
from shared.analysis.chunks import belong_together, heading_of, join_chunks, overlap

SMALL = Chunker(max_tokens=32, overlap_tokens=8)


def cut(text: str, heading: tuple[str, ...] = (), chunker: Chunker = SMALL) -> list[str]:
    return [chunk.text for chunk in chunker.chunk([Section(text=text, heading=heading)])]


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    ("before", "after", "repeated"),
    [
        ("One. Two.", "Two. Three.", "Two."),
        ("the cat", "table", ""),
        ("a tail tail", "tail tail more", "tail tail"),
        ("One.", "Two.", ""),
        ("", "x", ""),
        ("same", "same", "same"),
        ("long one", "one", "one"),
        ("x" * 30, "x" * 40, "x" * 30),
        ("私は日本語の文書を読みます。それは長い文です。", "それは長い文です。次の文。", "それは長い文です。"),
        ("aaaa bbbb aaaa bbbb", "aaaa bbbb cccc", "aaaa bbbb"),
    ],
)
def test_an_overlap_is_what_the_second_repeats_of_the_end_of_the_first(before: str, after: str, repeated: str) -> None:
    assert after[: overlap(before, after)] == repeated


@settings(max_examples=100)
@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_an_overlap_is_always_the_end_of_one_and_the_start_of_the_other(first: str, both: str, last: str) -> None:
    size = overlap(first + both, both + last)
    assert (both + last)[:size] == (first + both)[len(first + both) - size :]
    assert size >= len(both) or len(both) < 16


@settings(max_examples=100)
@given(st.lists(st.sampled_from([" ", "\n", "\n\n", ". ", " and "]), max_size=200), st.booleans())
def test_joined_chunks_have_each_word_once_and_the_heading_once(gaps: list[str], headed: bool) -> None:
    text = "".join(f"w{number}{gap}" for number, gap in enumerate(gaps))
    joined = join_chunks(cut(text, ("Guide", "Set up") if headed else ()))
    assert joined.count("Guide > Set up\n\n") == (headed and bool(words(text)))
    assert words(joined.removeprefix("Guide > Set up\n\n")) == words(text)


def test_with_an_overlap_the_joined_text_is_the_text() -> None:
    text = " ".join(f"Number {n} is here." for n in range(40))
    assert len(cut(text)) > 3
    assert join_chunks(cut(text)) == text


@pytest.mark.parametrize("header", ["Name | Size\n", "| Name | Size |\n|------|------|\n"])
def test_a_table_becomes_whole_again_with_its_header_once(header: str) -> None:
    text = header + "\n".join(f"city{n} | {n}" for n in range(30))
    chunks = cut(text, ("Cities",), Chunker(max_tokens=48, overlap_tokens=8))
    assert len(chunks) > 3
    assert join_chunks(chunks) == f"Cities\n\n{text}"
    later = join_chunks(chunks[2:])
    assert later.count("Name") == 1
    assert re.match(r"Cities\n\n\|? ?Name", later)


def test_sentences_and_lines_without_an_overlap_do_not_run_together() -> None:
    assert join_chunks(["H\n\nOne is here.", "H\n\nTwo is there"]) == "H\n\nOne is here.\n\nTwo is there"
    assert join_chunks(["- first item", "- second item"]) == "- first item\n- second item"
    assert join_chunks(["a | b", "c | d"]) == "a | b\nc | d"
    assert join_chunks(["whole text", "text"]) == "whole text"
    assert join_chunks(["alone"]) == "alone"
    assert join_chunks([]) == ""


def test_a_heading_is_a_first_line_with_a_blank_line_and_text_below() -> None:
    assert heading_of("A > B\n\ntext") == "A > B"
    assert heading_of("A\nB\n\ntext") == heading_of("A\n\n") == heading_of("A") == ""


def test_chunks_show_that_they_belong_together_by_their_heading_or_by_what_they_repeat() -> None:
    assert belong_together("A\n\nOne.", "A\n\nTwo.")
    assert belong_together("One. Two.", "Two. Three.")
    assert not belong_together("A\n\nOne.", "B\n\nTwo.")
    assert not belong_together("One.", "Two.")
