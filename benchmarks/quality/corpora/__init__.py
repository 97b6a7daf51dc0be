"""Corpora with questions, made from packages that Debian ships; nothing of them is in the repository.

    corpus = load("faq")                # texts and questions
    found = prepared("faq")             # the same, with chunks and vectors as numpy arrays

What was downloaded and computed is kept in `$SLUICE_QUALITY_CACHE`, by default `~/.cache/sluice-quality`: `packages/`
(archives and their files), `apt/` (package lists with descriptions) and `vectors/` (one file for each set of texts, by
the digest of the texts, the model and the chunking).
"""

from collections.abc import Callable
from functools import cache

from benchmarks.quality.corpora import descriptions, faq, parts
from benchmarks.quality.corpora.models import Corpus, Half, Kind, Question
from benchmarks.quality.corpora.vectors import Chunk, Prepared, prepare

__all__ = ["NAMES", "Chunk", "Corpus", "Half", "Kind", "Prepared", "Question", "load", "prepared"]

_MAKERS: dict[str, Callable[[], Corpus]] = {
    "faq": faq.make,
    "packages": descriptions.packages,
    "multilingual": descriptions.multilingual,
    "parts": parts.make,
}

NAMES = tuple(_MAKERS)


@cache
def load(name: str) -> Corpus:
    """The corpus of that name, one of NAMES. The first call may download; raises KeyError for other names and
    SystemExit where a package cannot be had."""
    return _MAKERS[name]()


@cache
def prepared(name: str) -> Prepared:
    """The corpus in Sluice's own chunks, with the vectors of chunks and questions by the packaged model."""
    return prepare(load(name))
