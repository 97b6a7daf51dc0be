"""The terms of documents and of questions: what is indexed, what is searched for, what is compared.

A document's terms are strings without white space, in order. A question's terms each have several forms, of which any
may be in a document: a word has the stems by the languages that the documents are in.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from shared.analysis.folding import strip_accents
from shared.analysis.languages import Language, detect_language, is_stop_word, stem
from shared.analysis.segments import LONGEST, Segment, SegmentKind, segments

__all__ = ["QuestionTerm", "TermKind", "content_terms", "document_terms", "keywords", "question_terms"]

CONTRACTIONS: Final = frozenset(["s", "t", "d", "l", "m", "j", "n", "c", "ll", "re", "ve", "qu"])
"""What an apostrophe leaves of a word: in `user's`, `don't`, `l'eau`."""


class TermKind(StrEnum):
    WORD = "word"
    IDENTIFIER = "identifier"
    """One thing's own name, whole."""
    PART = "part"
    """A word or number within an identifier or a compound."""
    GRAM = "gram"
    """Two characters of a script that does not part its words."""


@dataclass(frozen=True, slots=True)
class QuestionTerm:
    """What a document may hold of a question: any of `forms`. `text` is as it is written."""

    text: str
    forms: tuple[str, ...]
    kind: TermKind = TermKind.WORD


def document_terms(text: str, language: Language | None = None) -> list[str]:
    """All terms of the text in order, stop words included; a word may have two. Without a language it is detected."""
    spoken = language or detect_language(text)
    return [form for segment in segments(text) for form in _document_forms(segment, spoken)]


@lru_cache(maxsize=65_536)
def _document_forms(segment: Segment, language: Language) -> tuple[str, ...]:
    return tuple(form for term in _terms(segment, (language,)) for form in term.forms)


def question_terms(text: str, languages: Iterable[Language] = ()) -> list[QuestionTerm]:
    """The terms to look for, each once, in the order of the question; without stop words, unless there is nothing else.

    `languages` are those of the documents, in which the words are looked for beside the question's own.
    """
    own = detect_language(text)
    spoken = tuple(dict.fromkeys((own, *languages)))
    found: dict[tuple[str, ...], QuestionTerm] = {}
    stopped: dict[tuple[str, ...], QuestionTerm] = {}
    for segment in segments(text):
        for term in _terms(segment, spoken):
            stops = term.kind is TermKind.WORD and is_stop_word(strip_accents(segment.whole), (own,))
            (stopped if stops else found).setdefault(term.forms, term)
    return list((found or stopped).values())


def content_terms(text: str, language: Language | None = None) -> list[str]:
    """The terms of the text in order but for stop words, each in the first of its forms."""
    spoken = language or detect_language(text)
    return [
        term.forms[0]
        for segment in segments(text)
        for term in _terms(segment, (spoken,))
        if term.kind is not TermKind.WORD or not is_stop_word(strip_accents(segment.whole), (spoken,))
    ]


def keywords(text: str) -> list[str]:
    """The words of a text but its stop words, as they are written, each once."""
    own = detect_language(text)
    found: dict[str, str] = {}
    for segment in segments(text):
        folded = strip_accents(segment.whole)
        if segment.kind is not SegmentKind.WORD or not (folded in CONTRACTIONS or is_stop_word(folded, (own,))):
            found.setdefault(folded, segment.text)
    return list(found.values())


def _terms(segment: Segment, languages: tuple[Language, ...]) -> Iterator[QuestionTerm]:
    """The terms of a segment; none of accents alone."""
    return (term for term in _all_terms(segment, languages) if any(term.forms))


def _all_terms(segment: Segment, languages: tuple[Language, ...]) -> Iterator[QuestionTerm]:
    match segment.kind:
        case SegmentKind.WORD:
            if segment.whole not in CONTRACTIONS:
                yield QuestionTerm(segment.text, _forms(segment.whole, languages))
        case SegmentKind.UNSPACED:
            run = segment.whole
            for start in range(max(1, len(run) - 1)):
                gram = run[start : start + 2]
                yield QuestionTerm(gram, (gram,), TermKind.GRAM)
        case SegmentKind.IDENTIFIER | SegmentKind.COMPOUND:
            whole = TermKind.IDENTIFIER if segment.kind is SegmentKind.IDENTIFIER else TermKind.WORD
            yield QuestionTerm(segment.text, (_bounded(segment.whole),), whole)
            for part in segment.parts:
                yield QuestionTerm(part, _forms(part, languages), TermKind.PART)


def _forms(word: str, languages: tuple[Language, ...]) -> tuple[str, ...]:
    """The stems of a word, as it is written and without its accents: people leave them out on either side."""
    plain = strip_accents(word)
    if any(character.isdecimal() for character in word):
        return (_bounded(plain),)
    spellings = (word,) if plain == word else (word, plain)
    stems = (stem(spelling, language) for language in languages for spelling in spellings)
    return tuple(dict.fromkeys(_bounded(form) for form in stems if form))


def _bounded(form: str) -> str:
    if len(form) <= LONGEST:
        return form
    return form[:LONGEST] + hashlib.blake2b(form.encode("utf-8", "replace"), digest_size=8).hexdigest()
