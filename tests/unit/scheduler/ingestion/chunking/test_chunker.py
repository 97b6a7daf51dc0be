"""Chunks fit the model, lose nothing, and are cut where a reader would cut."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from services.scheduler.ingestion.chunking.chunker import MIN_TOKENS, Chunk, Chunker
from services.scheduler.ingestion.chunking.tokens import packaged_tokenizer
from services.scheduler.ingestion.parsing import Section

REAL = Tokenizer.from_file(str(packaged_tokenizer()))
REAL.no_truncation()
REAL.no_padding()
SMALL = Chunker(max_tokens=MIN_TOKENS, overlap_tokens=8)
APART = Chunker(max_tokens=MIN_TOKENS, overlap_tokens=0)
WORDS = " ".join(f"word{n}" for n in range(3000))


@pytest.fixture(scope="module")
def byte_level_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer as newer embedding models have: white space counts, words do not add up."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([WORDS], trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def chunks(text: str, chunker: Chunker = SMALL, heading: tuple[str, ...] = ()) -> list[Chunk]:
    return list(chunker.chunk([Section(text=text, heading=heading)]))


def size(chunk: Chunk) -> int:
    return len(REAL.encode(chunk.text).ids)


def without_blanks(text: str) -> str:
    return "".join(text.split())


WIDE = ["漢字かな。", "한국어", "ﷺ", "🙂🏽", "Ünïcödé", "e\u0301", "\u200b", "\u3000"]
LONG = ["x" * 130, "0123456789abcdef" * 5, "/a/b?c=d&e=f"]
PIECES = [*WIDE, *LONG, "word", "End.", "a.b-c", "[SEP]", "\n\n", "\n", " ", "\x85", "\x1c"]
texts = st.text(max_size=2000) | st.lists(st.sampled_from(PIECES), max_size=400).map("".join)


@settings(max_examples=300)
@given(texts)
@example("漢" * 500)
@example("ab" * 5000)
@example("x" + " " * 200_000 + "y")
@example("\x85\x1c" * 100 + "a\x1cb")
def test_chunks_of_any_text_fit_lose_nothing_and_are_the_same_each_time(text):
    found = chunks(text, APART)
    assert all(size(chunk) <= MIN_TOKENS for chunk in found)
    assert without_blanks("".join(chunk.text for chunk in found)) == without_blanks(text)
    assert [chunk.position for chunk in found] == list(range(len(found)))
    assert chunks(text, APART) == found


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([" ", "\n", "\n\n", ". ", "", "/", "\u3002", "x" * 60 + " ", "\t" * 300]), max_size=300)
)
def test_with_an_overlap_chunks_fit_and_lose_nothing(gaps):
    text = "".join(f"<{number}>{gap}" for number, gap in enumerate(gaps))
    found = chunks(text)
    seen = [int(number) for chunk in found for number in re.findall(r"<(\d+)>", chunk.text)]
    assert list(dict.fromkeys(seen)) == list(range(len(gaps)))
    assert all(size(chunk) <= MIN_TOKENS for chunk in found)
    assert all(chunk.text in text for chunk in found)


@settings(max_examples=100)
@given(texts, st.lists(st.text(max_size=200), max_size=5).map(tuple))
def test_chunks_with_any_heading_fit(text, heading):
    found = chunks(text, heading=heading)
    assert all(size(chunk) <= MIN_TOKENS for chunk in found)
    assert all(chunk.text.startswith(chunk.heading) for chunk in found)


@settings(max_examples=60)
@given(texts)
def test_chunks_fit_a_tokenizer_whose_words_do_not_add_up(byte_level_tokenizer, text):
    chunker = Chunker(byte_level_tokenizer, max_tokens=40, overlap_tokens=0)
    tokenizer = Tokenizer.from_file(str(byte_level_tokenizer / "tokenizer.json"))
    found = chunks(text, chunker)
    assert all(len(tokenizer.encode(chunk.text).ids) <= 40 for chunk in found)
    assert without_blanks("".join(chunk.text for chunk in found)) == without_blanks(text)


@pytest.mark.parametrize("unit", ["word ", "x", "漢", "a.", "\n", "sentence end. ", "🙂", "abc-def/", "\n\npara"])
def test_much_of_one_kind_is_chunked_within_the_bound(unit):
    text = "start " + unit * (200_000 // len(unit)) + " end"
    found = chunks(text, Chunker())
    assert max(map(size, found)) <= 256
    assert found[0].text.startswith("start")
    assert found[-1].text.endswith("end")


def test_where_windows_of_a_long_text_end_does_not_show():
    text = " ".join(f"This is sentence number {number} of a long text." for number in range(6000))
    found = chunks(text, Chunker(overlap_tokens=0))
    assert all(chunk.text.startswith("This is") and chunk.text.endswith("text.") for chunk in found)
    assert min(map(size, found[:-1])) > 200


def test_small_paragraphs_are_packed_together():
    assert len(chunks("One.\n\nTwo.\n\nThree.")) == 1


def test_a_cut_prefers_a_paragraph_then_a_sentence_then_a_line():
    def filler(count: int) -> str:
        return " ".join(["word"] * count)

    by_paragraph = chunks(f"{filler(18)}\n\n{filler(4)}. {filler(20)}")
    assert by_paragraph[0].text == filler(18)
    by_sentence = chunks(f"{filler(18)}. {filler(4)}\n{filler(20)}")
    assert by_sentence[0].text == f"{filler(18)}."
    by_line = chunks(f"{filler(18)}\n{filler(40)}")
    assert by_line[0].text == filler(18)


def test_a_chunk_repeats_the_last_sentence_of_the_one_before():
    text = " ".join(f"Number {n} is here." for n in range(30))
    first, second, *_ = chunks(text)
    assert second.text.startswith(first.text[-len("Number 4 is here.") :])


def test_within_a_sentence_the_last_words_are_repeated():
    text = " ".join(["word"] * 28 + ["tail"] * 2 + ["more"] * 30)
    first, second, *_ = chunks(text)
    assert first.text.endswith("tail tail")
    assert second.text == " ".join(["word"] * 6 + ["tail"] * 2 + ["more"] * 22)


def test_without_overlap_nothing_is_repeated():
    found = chunks(WORDS, Chunker(max_tokens=64, overlap_tokens=0))
    assert " ".join(chunk.text for chunk in found) == WORDS


def test_chunks_never_span_sections_and_keep_the_page():
    sections = [Section(text="One.", page=1), Section(text="Two.", page=2), Section(text="Three.")]
    assert list(SMALL.chunk(sections)) == [
        Chunk(position=0, text="One.", page=1),
        Chunk(position=1, text="Two.", page=2),
        Chunk(position=2, text="Three.", section=1),
    ]


def test_pages_under_one_heading_are_one_section_and_records_are_not():
    sections = [
        Section(text="One.", heading=("A",), page=1),
        Section(text="Two.", heading=("A",), page=2),
        Section(text="Three.", heading=("B",), page=2),
        Section(text="Four."),
        Section(text="Five."),
    ]
    assert [chunk.section for chunk in SMALL.chunk(sections)] == [0, 0, 1, 2, 3]
    assert {chunk.section for chunk in chunks(WORDS)} == {0}


def rows(header: str, count: int = 30) -> str:
    return header + "\n".join(f"| city{n} | {n} |" for n in range(count))


@pytest.mark.parametrize(
    ("header", "repeated"),
    [("| Name | Size |\n", "| Name | Size |\n"), ("| 1 | 2 |\n|:----|-----|\n", "| 1 | 2 |\n|-|-|\n")],
)
def test_each_chunk_of_a_long_table_has_its_header(header, repeated):
    text = f"Words before.\n\n{rows(header)}\n\nWords after it are no row. {'word ' * 60}"
    found = chunks(text, Chunker(max_tokens=48, overlap_tokens=8), heading=("Cities",))
    bodies = [chunk.text.removeprefix("Cities\n\n") for chunk in found]
    assert sum(body.startswith(f"{repeated}| city") for body in bodies) >= 3
    assert not any(body.startswith("| city") for body in bodies)
    assert not bodies[-1].startswith("|")
    assert all(size(chunk) <= 48 for chunk in found)
    seen = [int(n) for chunk in found for n in re.findall(r"city(\d+)", chunk.text)]
    assert set(seen) == set(range(30))


@pytest.mark.parametrize("row", ["| city{0} | |", "|city{0}||", "city{0} | -"])
def test_rows_with_empty_cells_are_rows_of_the_table(row):
    text = "| Name | Size |\n|---|---|\n" + "\n".join(row.format(n) for n in range(40))
    found = chunks(text, Chunker(max_tokens=48, overlap_tokens=8))
    assert len(found) > 3
    assert all(chunk.text.startswith("| Name | Size |\n") for chunk in found)


@pytest.mark.parametrize("header", ["| 1900 | 2 |", "| Same | Same |", "| Name | |", f"| {'Name ' * 20} | Size |"])
def test_a_first_row_without_names_and_a_header_that_is_too_long_are_not_repeated(header):
    found = chunks(rows(f"{header}\n"))
    assert sum(header in chunk.text for chunk in found) <= 1
    assert all(size(chunk) <= MIN_TOKENS for chunk in found)


@settings(max_examples=100)
@given(
    st.lists(
        st.sampled_from(["| a | b |\n", "a | b\n", "|---|---|\n", "x | y | z\n", "\n", "| ", "a" * 60, "w "]),
        max_size=200,
    )
)
def test_chunks_of_anything_like_a_table_fit_and_lose_nothing(lines):
    text = "".join(f"{line.rstrip()} {number}#\n" if line.strip() else line for number, line in enumerate(lines))
    found = chunks(text)
    assert all(size(chunk) <= MIN_TOKENS for chunk in found)
    wanted = re.findall(r"\d+#", text)
    assert set(re.findall(r"\d+#", "".join(chunk.text for chunk in found))) >= set(wanted) or not wanted


def test_the_heading_path_stands_in_front_of_every_chunk():
    found = chunks("word " * 100, heading=("Guide", "Set  up"))
    assert len(found) > 3
    assert all(chunk.heading == "Guide > Set up" for chunk in found)
    assert all(chunk.text.startswith("Guide > Set up\n\nword") for chunk in found)


def test_a_long_heading_path_loses_its_outermost_headings_first():
    assert chunks("text", heading=("outer " * 20, "Inner"))[0].heading == "Inner"
    cut = chunks("text", heading=("endless " * 50,))[0].heading
    assert cut.startswith("endless")
    assert len(REAL.encode(cut, add_special_tokens=False).ids) <= MIN_TOKENS // 4


def test_a_text_of_blanks_has_no_chunks():
    assert chunks(" \n\t ") == []


def test_the_fingerprint_changes_with_the_tokenizer_and_the_settings(byte_level_tokenizer):
    same = Chunker().fingerprint
    others = [
        Chunker(max_tokens=128).fingerprint,
        Chunker(overlap_tokens=16).fingerprint,
        Chunker(byte_level_tokenizer).fingerprint,
    ]
    assert Chunker(packaged_tokenizer()).fingerprint == same
    assert len({same, *others}) == 4


def test_the_packaged_tokenizer_is_that_of_a_bert_model():
    config = json.loads(packaged_tokenizer().read_text())
    assert config["model"]["type"] == "WordPiece"


def test_settings_that_cannot_work_are_refused(tmp_path):
    for wrong in ({"max_tokens": MIN_TOKENS - 1}, {"overlap_tokens": -1}, {"max_tokens": 64, "overlap_tokens": 17}):
        with pytest.raises(ValueError, match="max_tokens"):
            Chunker(**wrong)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        Chunker(tmp_path)
