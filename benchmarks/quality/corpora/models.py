"""What a corpus is: documents, and questions with the documents that answer them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

__all__ = ["Corpus", "Half", "Kind", "Question", "draw"]


class Kind(StrEnum):
    """What a question is like."""

    KNOWN_ITEM = "known-item"
    """A title or heading that was taken out of the document."""
    QUESTIONS = "questions"
    """A question that a person wrote; the document is the answer alone."""
    TYPOS = "typos"
    PARAPHRASES = "paraphrases"
    IDENTIFIERS = "identifiers"
    """Names, numbers and codes that must be found exactly, among siblings that nearly match."""
    CROSS = "cross"
    """The question is in another language than the document."""
    UNANSWERABLE = "unanswerable"
    """No document answers it: `relevant` is empty."""


class Half(StrEnum):
    """Parameters are chosen on `tune` alone; figures are told of `test` alone."""

    TUNE = "tune"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`relevant` maps documents to grades, 1 and up; `subset` says more of where an unanswerable question is from."""

    id: str
    text: str
    relevant: Mapping[str, int]
    kind: Kind
    half: Half
    language: str = "en"
    subset: str = ""

    @classmethod
    def of(
        cls,
        text: str,
        relevant: Mapping[str, int],
        kind: Kind,
        *,
        origin: str = "",
        language: str = "en",
        subset: str = "",
    ) -> Self:
        """`origin` is the question that this one is made from: both are in the same half."""
        return cls(
            id=f"{kind}-{digest(text)[:12]}",
            text=text,
            relevant=relevant,
            kind=kind,
            half=Half.TUNE if int(digest(origin or text)[:8], 16) % 2 else Half.TEST,
            language=language,
            subset=subset,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """`documents` are texts by the names of files, such as `perlfaq4-012.txt`; `sources` are versions of packages."""

    name: str
    documents: Mapping[str, str]
    questions: Sequence[Question]
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {name for question in self.questions for name in question.relevant} - set(self.documents)
        assert not missing, f"{self.name}: questions name {len(missing)} documents that are not there"
        assert len({question.id for question in self.questions}) == len(self.questions)

    @property
    def digest(self) -> str:
        """Equal digests promise equal documents and questions."""
        questions = [[one.text, dict(one.relevant), one.kind] for one in self.questions]
        return digest(json.dumps([dict(self.documents), questions], sort_keys=True))[:16]

    def of(self, half: Half, *kinds: Kind) -> list[Question]:
        """The questions of a half, of all kinds or of those that are given."""
        return [one for one in self.questions if one.half is half and (not kinds or one.kind in kinds)]


def digest(text: str) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def draw(things: Iterable[str], count: int, *, seed: str = "") -> list[str]:
    """That many of the names, the same ones each time; a name that comes or goes moves few others."""
    return sorted(things, key=lambda name: digest(f"{seed}/{name}"))[:count]
