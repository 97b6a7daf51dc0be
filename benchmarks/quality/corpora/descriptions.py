"""The corpora `packages` and `multilingual`: Debian packages by what their descriptions say.

A document is the long description of a package; the question is its one-line description, which is not in it. In
`multilingual` the languages are mixed in one collection, every package in one language alone, as volunteers translated
it; a question of the kind `cross` is the English line of a package whose document is in another language.
"""

import re
from collections import Counter
from functools import cache
from typing import Final

from benchmarks.quality.corpora.faq import debian_questions, entries
from benchmarks.quality.corpora.models import Corpus, Kind, Question, draw
from benchmarks.quality.corpora.packages import paragraphs
from benchmarks.quality.corpora.perturb import paraphrase, typos

__all__ = ["multilingual", "packages"]

DOCUMENTS: Final = 2000
QUESTIONS: Final = 300
OTHER_LANGUAGES: Final = ("de", "es", "fr", "it", "ja", "ru", "zh_CN")
PER_LANGUAGE: Final = 220
PER_LANGUAGE_QUESTIONS: Final = 60
UNANSWERABLE: Final = 20
LEAST_LETTERS: Final = {"ja": 80, "zh_CN": 60}
"""Of a description in that language; 200 in others."""

_PARTS = re.compile(r"-(dev|doc|data|dbg|common|dbgsym|l10n|locale|plugins?|utils|bin|tests?|examples|[a-z]{2})$|^lib")
_Description = tuple[str, str]


@cache
def described(language: str) -> dict[str, _Description]:
    """Line and text of each package that is described in a language, without those whose line another one has too."""
    found: dict[str, _Description] = {}
    for fields in paragraphs(f"*_bookworm_main_i18n_Translation-{language.replace('_', '%5f')}.lz4"):
        line, _, text = fields.get(f"Description-{language}", "").partition("\n")
        text = "\n".join("" if part == "." else part for part in text.split("\n")).strip()
        wide = language in LEAST_LETTERS
        enough = len(text) >= LEAST_LETTERS.get(language, 200) and (len(line) >= 6 if wide else len(line.split()) >= 3)
        if enough and line.lower() not in text.lower() and not _PARTS.search(fields["Package"]):
            found[fields["Package"]] = (line, text)
    lines = Counter(line.lower() for line, _ in found.values())
    texts = Counter(text[:80] for _, text in found.values())
    return {name: one for name, one in found.items() if lines[one[0].lower()] == 1 and texts[one[1][:80]] == 1}


def packages() -> Corpus:
    everything = described("en")
    order = draw(everything, DOCUMENTS + QUESTIONS // 2)
    there, absent = order[:DOCUMENTS], order[DOCUMENTS:]
    documents = {f"{name}.txt": _document(name, everything[name][1]) for name in there}
    questions = []
    for name in there[:QUESTIONS]:
        line, relevant = everything[name][0], {f"{name}.txt": 1}
        questions.append(Question.of(line, relevant, Kind.KNOWN_ITEM))
        questions.append(Question.of(typos(line), relevant, Kind.TYPOS, origin=line))
        if other := paraphrase(line):
            questions.append(Question.of(other, relevant, Kind.PARAPHRASES, origin=line))
    named = there[QUESTIONS : QUESTIONS + 150]
    questions += [Question.of(_named(name), {f"{name}.txt": 1}, Kind.IDENTIFIERS) for name in named]
    questions += [Question.of(_named(name), {}, Kind.UNANSWERABLE, subset="absent-entity") for name in absent]
    foreign = draw([asked for _, asked, _ in entries()], 100, seed="packages")
    questions += [Question.of(question, {}, Kind.UNANSWERABLE, subset="foreign") for question in foreign]
    unique = {question.id: question for question in questions}
    return Corpus(name="packages", documents=documents, questions=list(unique.values()))


def multilingual() -> Corpus:
    documents, questions, used = {}, [], set()
    english = described("en")
    for language in OTHER_LANGUAGES:
        own = {name: one for name, one in described(language).items() if name not in used and name in english}
        chosen = draw(own, PER_LANGUAGE, seed=language)
        used.update(chosen)
        short = language.partition("_")[0]
        for place, name in enumerate(chosen):
            line, text = own[name]
            document = f"{name}.{short}.txt"
            documents[document] = _document(name, text)
            relevant = {document: 1}
            if place < PER_LANGUAGE_QUESTIONS:
                questions.append(Question.of(line, relevant, Kind.KNOWN_ITEM, language=short))
            elif place < PER_LANGUAGE_QUESTIONS * 4 // 3:
                questions.append(Question.of(english[name][0], relevant, Kind.CROSS))
        questions += [
            Question.of(question, {}, Kind.UNANSWERABLE, language=short, subset="foreign")
            for question in draw(debian_questions(short), UNANSWERABLE, seed="multilingual")
        ]
    unique = {question.id: question for question in questions}
    return Corpus(name="multilingual", documents=documents, questions=list(unique.values()))


def _document(name: str, text: str) -> str:
    return f"Package: {name}\n\n{text}\n"


def _named(name: str) -> str:
    """A question about a package by its name, in one of some forms."""
    forms = ("What is {} for?", "what does the package {} do", "{}", "Do I need {}, and what does it do?")
    return forms[len(name) % len(forms)].format(name)
