"""The corpus `faq`: what people asked about Perl, Python, Debian, R, git, zsh and Apache, and what they were told.

A document is the answer to one question of a FAQ; the question's own words are not in it. One entry in eight has no
document: its question is one that the collection cannot answer. Neither does it answer questions about Emacs.
"""

import re
from collections.abc import Iterator
from typing import Final

from benchmarks.quality.corpora.models import Corpus, Kind, Question, digest, draw
from benchmarks.quality.corpora.packages import locked, package, version
from benchmarks.quality.corpora.perturb import paraphrase, typos
from services.scheduler.ingestion.parsing.registry import parse

__all__ = ["debian_questions", "emacs", "entries", "make"]

HTML: Final = (
    ("python3.11-doc", "usr/share/doc/python3.11/html/faq/*.html"),
    ("debian-faq", "usr/share/doc/debian/FAQ/*.en.html"),
    ("r-doc-html", "usr/share/R/doc/manual/R-FAQ.html"),
    ("zsh-doc", "usr/share/doc/zsh-common/html/FAQ0?.html"),
    ("apache2-doc", "usr/share/doc/apache2-doc/manual/en/ssl/ssl_faq.html"),
)
FOREIGN: Final = 60
LEAST_ANSWER: Final = 80
_NUMBER = re.compile(r"^(Q?\d+(\.\d+)*[.:)]?|Chapter \d+[.:])\s+")
_INTERROGATIVE = re.compile(r"(how|what|why|is|are|can|where|when|which|who|does|do|should|i|my)\b", re.IGNORECASE)


def make() -> Corpus:
    documents, questions = {}, []
    seen: set[str] = set()
    for name, question, answer in entries():
        if question.lower() in seen:
            continue
        seen.add(question.lower())
        if int(digest(f"removed/{question}")[:8], 16) % 8 == 0:
            questions.append(Question.of(question, {}, Kind.UNANSWERABLE, subset="removed"))
            continue
        documents[name] = answer
        relevant = {name: 1}
        questions.append(Question.of(question, relevant, Kind.QUESTIONS))
        if int(digest(f"perturbed/{question}")[:8], 16) % 2:
            continue
        questions.append(Question.of(typos(question), relevant, Kind.TYPOS, origin=question))
        if other := paraphrase(question):
            questions.append(Question.of(other, relevant, Kind.PARAPHRASES, origin=question))
    questions += [Question.of(question, {}, Kind.UNANSWERABLE, subset="foreign") for question in draw(emacs(), FOREIGN)]
    sources = {name: version(name) for name in ("perl-doc", *dict(HTML), "emacs-common", "wordnet-base")}
    unique = {question.id: question for question in questions}
    return Corpus(name="faq", documents=documents, questions=list(unique.values()), sources=sources)


def entries() -> Iterator[tuple[str, str, str]]:
    """(name of the document, question, answer) of each entry, without the question's words in the answer."""
    for path in sorted((package("perl-doc") / "usr/share/perl").glob("*/pod/perlfaq?.pod")):
        for number, block in enumerate(re.split(r"^=head2 ", path.read_text(), flags=re.MULTILINE)[1:], 1):
            question, _, answer = block.partition("\n\n")
            answer = re.split(r"^=head1 ", answer, maxsplit=1, flags=re.MULTILINE)[0]
            yield from _entry(f"{path.stem}-{number:03}.txt", _pod(question), _pod(answer))
    for name, pattern in HTML:
        for path in sorted(package(name).glob(pattern)):
            sections: dict[str, list[str]] = {}
            for section in parse(path.name, path.read_bytes()).sections:
                question = next((part for part in section.heading[::-1] if "?" in part), "")
                sections.setdefault(_NUMBER.sub("", question.replace("\u00b6", "").strip()), []).append(section.text)
            for number, (question, texts) in enumerate(sections.items(), 1):
                if question:
                    stem = f"{name.split('-')[0]}-{path.stem.split('.')[0]}".lower()
                    yield from _entry(f"{stem}-{number:03}.txt", question, "\n\n".join(texts))


def emacs() -> list[str]:
    """Questions of the Emacs FAQ."""
    import gzip

    text = gzip.decompress((package("emacs-common") / "usr/share/info/emacs/efaq.info.gz").read_bytes()).decode()
    found = re.findall(r"^\d+\.\d+ (\S.*\?)\n=+$", text, re.MULTILINE)
    return [question for question in found if len(question) > 20]


def debian_questions(language: str) -> list[str]:
    """Questions of the Debian FAQ in de, fr, it, ja, ru or zh; none in other languages."""
    package_name = {"zh": "debian-faq-zh-cn"}.get(language, f"debian-faq-{language}")
    if package_name not in locked():
        return []
    found = []
    for path in sorted(package(package_name).glob("usr/share/doc/debian/FAQ/*/*.html")):
        for section in parse(path.name, path.read_bytes()).sections:
            asked = _NUMBER.sub("", section.heading[-1]) if section.heading else ""
            if asked.endswith(("?", "\uff1f")) and asked not in found:
                found.append(asked)
    return found


def _entry(name: str, question: str, answer: str) -> Iterator[tuple[str, str, str]]:
    question = " ".join(question.split())
    answer = re.sub(re.escape(question), "", answer, flags=re.IGNORECASE).strip()
    if _INTERROGATIVE.match(question) and len(answer) >= LEAST_ANSWER:
        yield name, question, answer + "\n"


def _pod(text: str) -> str:
    """POD as plain text: formatting codes give way to what they hold, commands to their words."""
    text = re.sub(r"X<[^<>]*>", "", text)  # entries of an index
    while (shorter := re.sub(r"[A-Z]<(?:<+ )?([^<>]*?)(?: >+)?>", r"\1", text)) != text:
        text = shorter
    return re.sub(r"^=(over|back|item|for|begin|end|encoding|cut)\b ?[\d*]*", "", text, flags=re.MULTILINE).strip()
