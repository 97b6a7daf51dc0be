# ruff: noqa: RUF001  (letters that look like others are what is tested)
"""The words of texts: what is the same to a reader is the same to search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis.folding import fold
from shared.analysis.languages import Language, detect_language, stem
from shared.analysis.segments import LONGEST, SegmentKind, segments
from shared.analysis.terms import TermKind, document_terms, keywords, question_terms

SOFT_HYPHEN, NON_BREAKING_HYPHEN = "\u00ad", "\u2011"


def finds(question: str, document: str, *languages: Language) -> bool:
    """Whether each term of the question is in the document."""
    held = set(document_terms(document))
    return all(held.intersection(term.forms) for term in question_terms(question, languages))


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("runs", "It was running."),
        ("CAFE", "the café"),
        ("cafés", "a cafe"),
        ("Zorn", "Café Zörn serves pike."),
        ("cooperative", f"co{SOFT_HYPHEN}ope{SOFT_HYPHEN}ra{SOFT_HYPHEN}tive"),
        ("sauna opens", "\uff34\uff48\uff45 \uff53\uff41\uff55\uff4e\uff41 \uff4f\uff50\uff45\uff4e\uff53"),
        ("strasse", "Straße"),
        ("Φιλτρο", "Το φίλτρο ελέγχεται."),
        ("المدير", "الـمُديرُ يوقّع"),
        ("המנהל", "הַמְּנַהֵל חוֹתֵם"),
        ("日本語", "これは日本語の文書です"),
        ("ไส้กรอง", "ต้องตรวจสอบไส้กรองของปั๊มน้ำ"),
        ("휴가 신청", "연차 휴가는 사흘 전에 신청해야 합니다."),
        ("the user's files", "files of a user"),
    ],
)
def test_spellings_of_one_word_meet(question: str, document: str) -> None:
    assert finds(question, document)


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("ERR-4032", f"ERR{NON_BREAKING_HYPHEN}4032: the valve"),
        ("err 4032", "ERR-4032: the valve"),
        ("err_4032", "ERR-4032"),
        ("4032", "ERR-4032"),
        ("2.14.1", "Release v2.14.1 repairs it."),
        ("v2.14.1", "v2.14.1"),
        ("2.14", "v2.14.1"),
        ("fooBarBaz", "call foo_bar_baz()"),
        ("bar baz", "fooBarBaz"),
        ("HTTPServer", "class HttpServer:"),
        ("C++", "written in C++."),
        ("sshd_config", "see /etc/ssh/sshd_config"),
        ("CVE-2024-1200", "fixes CVE-2024-1200."),
        ("1,000", "1000 pieces"),
        ("550e8400-e29b-41d4-a716-446655440000", "id 550E8400-E29B-41D4-A716-446655440000"),
    ],
)
def test_identifiers_are_found_whole_and_in_parts(question: str, document: str) -> None:
    assert finds(question, document)


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("PPR-9063", "Part PPR-9064 is a gasket."),
        ("v2.14.1", "v2.1.41"),
        ("2.14.1", "21.41"),
        ("C++", "C#"),
        ("CVE-2024-9999", "CVE-2024-1200"),
    ],
)
def test_identifiers_that_differ_stay_apart(question: str, document: str) -> None:
    assert not finds(question, document)


def test_an_identifier_is_told_from_a_word_and_from_a_compound() -> None:
    kinds = {segment.text: segment.kind for segment in segments("ERR-4032 well-known fooBar word 12 d41d8cd98f00 東京")}
    assert kinds == {
        "ERR-4032": SegmentKind.IDENTIFIER,
        "well-known": SegmentKind.COMPOUND,
        "fooBar": SegmentKind.IDENTIFIER,
        "word": SegmentKind.WORD,
        "12": SegmentKind.WORD,
        "d41d8cd98f00": SegmentKind.IDENTIFIER,
        "東京": SegmentKind.UNSPACED,
    }


@pytest.mark.parametrize("length", [41, LONGEST, 500])
def test_no_length_drops_a_term(length: int) -> None:
    long = "a1b2c3d4e5" * (length // 10 + 1)
    other = long[:-1] + "x"
    assert finds(long, f"the digest {long} of a file")
    assert not finds(other, f"the digest {long} of a file")
    assert all(len(term) <= LONGEST + 16 for term in document_terms(long))


def test_a_question_goes_without_stop_words_unless_it_has_no_others() -> None:
    assert [term.text for term in question_terms("What is the price of the bracket?")] == ["price", "bracket"]
    assert [term.text for term in question_terms("To be or not to be")] == ["To", "be", "or", "not"]
    assert finds("To be or not to be", "to be, or not to be: that is the question")


def test_a_question_is_read_in_the_languages_of_the_documents() -> None:
    document = "Das alte Haus wird von den Nachbarn und ihren Freunden neu gestrichen."
    assert detect_language(document) is Language.GERMAN
    assert not finds("Häusern", document)
    assert finds("Häusern", document, Language.GERMAN)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I install a package?", Language.ENGLISH),
        ("Wie wird ein Paket installiert?", Language.GERMAN),
        ("Comment installer un paquet sur cette machine ?", Language.FRENCH),
        ("¿Cómo se instala un paquete en esta máquina?", Language.SPANISH),
        ("Come si installa un pacchetto?", Language.ITALIAN),
        ("Hoe kan ik een pakket installeren?", Language.DUTCH),
        ("", Language.ENGLISH),
    ],
)
def test_the_language_of_a_text_is_told_by_its_function_words(text: str, language: Language) -> None:
    assert detect_language(text) is language


def test_words_of_another_script_are_stemmed_by_their_own_language() -> None:
    assert stem("контракты", Language.ENGLISH) == stem("контракта", Language.GERMAN)


def test_keywords_are_what_a_question_is_about_as_it_is_written() -> None:
    assert keywords("What does the ERR-4032 of the Pump mean?") == ["ERR-4032", "Pump", "mean"]


def test_the_kinds_of_terms_say_what_names_something() -> None:
    kinds = {term.text: term.kind for term in question_terms("gasket PPR-9063 東京")}
    assert kinds == {
        "gasket": TermKind.WORD,
        "PPR-9063": TermKind.IDENTIFIER,
        "ppr": TermKind.PART,
        "9063": TermKind.PART,
        "東京": TermKind.GRAM,
    }


@given(st.text(max_size=300))
def test_any_text_has_terms_without_white_space_that_it_finds_itself(text: str) -> None:
    terms = document_terms(text)
    assert all(term and term.split() == [term] for term in terms)
    assert finds(text, text)


@given(st.text(max_size=100))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)
