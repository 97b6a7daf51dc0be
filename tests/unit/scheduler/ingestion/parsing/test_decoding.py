"""Bytes in any usual encoding become clean Unicode text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.ingestion.parsing.cleaning import clean
from services.scheduler.ingestion.parsing.decoding import decode, is_binary
from shared.contracts.problems import Problem, ProblemType

FRENCH = "Voilà l'été : les élèves français déjeunent à l'école, même où le café coûte cher. " * 3
GERMAN = "Die Straßenbahn fährt über die große Brücke; süße Äpfel wären schöner als öde Bücher. " * 3
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 5
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたか頓と見当がつかぬ。" * 5
CHINESE = "床前明月光。疑是地上霜。举头望明月。低头思故乡。" * 5


@pytest.mark.parametrize("sample", [FRENCH, GERMAN, RUSSIAN, JAPANESE, CHINESE, "plain ascii text"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_are_exact(sample, encoding):
    assert decode(sample.encode(encoding)) == sample


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_recognised_in_western_text(encoding):
    assert decode(GERMAN.encode(encoding)) == GERMAN


@pytest.mark.parametrize(
    ("sample", "encoding"),
    [
        (FRENCH, "latin-1"),
        (GERMAN, "latin-1"),
        (GERMAN, "cp1252"),
        (RUSSIAN, "cp1251"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (CHINESE, "gb18030"),
        ("Un café à Genève", "latin-1"),
    ],
)
def test_older_encodings_are_recognised(sample, encoding):
    assert decode(sample.encode(encoding)) == sample


def test_an_old_encoding_is_recognised_when_only_the_end_of_a_long_text_shows_it():
    sample = "plain words " * 20_000 + GERMAN
    assert decode(sample.encode("latin-1")) == sample


def test_utf_8_with_one_damaged_byte_stays_utf_8():
    data = RUSSIAN.encode()
    assert decode(data + b"\xff end") == RUSSIAN + "\ufffd end"


def test_a_declared_encoding_is_used_unless_it_is_nonsense():
    assert decode("łódź".encode("iso-8859-2"), declared="iso-8859-2") == "łódź"
    assert decode("Übung".encode("latin-1") * 9, declared="no-such-charset") == "Übung" * 9


def test_binary_data_is_recognised():
    assert is_binary(b"\x7fELF\x02\x01\x01\0\0\0")
    assert not is_binary(b"text\twith\r\ntabs\x1b[0m")
    with pytest.raises(Problem) as caught:
        decode(b"GIF89a\0\0\0")
    assert caught.value.kind is ProblemType.UNSUPPORTED_DOCUMENT


def test_cleaning_normalises_line_ends_and_drops_control_characters():
    assert clean("\ufeffa\r\nb\rc\x00\x07 \t\nd\fe\x7f\n\n\n\nf\n") == "a\nb\nc\nd\n\ne\n\nf"


def test_cleaning_composes_characters_and_keeps_indentation():
    assert clean("    cafe\u0301\n\tx") == "    café\n\tx"


@given(st.text())
def test_cleaning_keeps_every_printed_character_and_is_stable(text):
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    printed = [c for c in unicodedata.normalize("NFC", text) if c.isprintable() and not c.isspace()]
    assert [c for c in cleaned if c.isprintable() and not c.isspace()] == printed
