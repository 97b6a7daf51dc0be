"""Languages: their stop words, their stemmers, and which one a text is in."""

import threading
import tomllib
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Final

import regex
import Stemmer

from shared.analysis.folding import strip_accents

__all__ = ["Language", "detect_language", "is_stop_word", "stem", "stop_words"]


class Language(StrEnum):
    """Languages whose words are stemmed, by their ISO 639-1 code."""

    ARABIC = "ar"
    DANISH = "da"
    DUTCH = "nl"
    ENGLISH = "en"
    FINNISH = "fi"
    FRENCH = "fr"
    GERMAN = "de"
    GREEK = "el"
    HINDI = "hi"
    HUNGARIAN = "hu"
    ITALIAN = "it"
    NORWEGIAN = "no"
    PORTUGUESE = "pt"
    ROMANIAN = "ro"
    RUSSIAN = "ru"
    SPANISH = "es"
    SWEDISH = "sv"
    TURKISH = "tr"

    @property
    def algorithm(self) -> str:
        """The name of its Snowball stemmer."""
        return self.name.lower()


_STOP: Final = {
    Language(code): frozenset(strip_accents(word) for word in words.split())
    for code, words in tomllib.loads(files(__package__).joinpath("stop_words.toml").read_text("utf-8")).items()
}
_SCRIPTS: Final = {
    regex.compile(r"\p{Greek}"): Language.GREEK,
    regex.compile(r"\p{Cyrillic}"): Language.RUSSIAN,
    regex.compile(r"\p{Arabic}"): Language.ARABIC,
    regex.compile(r"\p{Devanagari}"): Language.HINDI,
}
_LATIN: Final = tuple(language for language in _STOP if language not in _SCRIPTS.values())
_WORD: Final = regex.compile(r"[\p{L}\p{M}]+")

READ: Final = 4_000
"""Characters of a text that tell its language."""


def detect_language(text: str) -> Language:
    """The language whose function words the text has most of, English where it has none.

    It decides how words in Latin letters are stemmed; those of other scripts go by their script. A question of a few
    words may have no function word at all, so who searches tries the languages of the collection too.
    """
    words = [strip_accents(word.casefold()) for word in _WORD.findall(text[:READ])]
    best, most = Language.ENGLISH, 0
    for language in _LATIN:
        count = sum(word in _STOP[language] for word in words)
        if count > most:
            best, most = language, count
    return best


def stop_words(languages: Iterable[Language]) -> frozenset[str]:
    """The stop words of all these languages, without accents."""
    return frozenset[str]().union(*(_STOP[language] for language in languages))


def is_stop_word(word: str, languages: Iterable[Language]) -> bool:
    """Whether the word, in lower case and without accents, is a stop word of one of them, or of its script's."""
    by_script = _language_of_script(word)
    return any(word in _STOP[language] for language in ((by_script,) if by_script else languages))


def stem(word: str, language: Language) -> str:
    """The stem of a word in lower case, without accents. A word of another script is stemmed by its own language."""
    return _stem(word, _language_of_script(word) or language)


@lru_cache(maxsize=65_536)
def _stem(word: str, language: Language) -> str:
    if (stemmer := getattr(_local, language.name, None)) is None:
        stemmer = Stemmer.Stemmer(language.algorithm, 0)
        setattr(_local, language.name, stemmer)
    return strip_accents(stemmer.stemWord(word))


_local = threading.local()
"""Stemmers by the name of their language: one must not be used by two threads."""


def _language_of_script(word: str) -> Language | None:
    if word.isascii():
        return None
    return next((language for script, language in _SCRIPTS.items() if script.match(word)), None)
