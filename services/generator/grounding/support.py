"""Whether the passages support each sentence of an answer: by its words, and where these leave doubt, by its meaning.

A figure (a number, an identifier with digits) that no passage has makes a sentence unsupported. Otherwise the words
decide where nearly all or hardly any of them stand in a passage. The rest is compared by the embedding model, sentence
with sentence: the mean of the share of words and of the cosine decides. The thresholds were chosen on one half of
the sentences of `benchmarks/support`; docs/generation.md has what they do on the other.
"""

import logging
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import mul
from typing import Final

import anyio
from nats.errors import Error as NatsError

from services.generator.engines.base import PromptPassage
from services.generator.grounding.containment import Words, contained
from shared.analysis.sentences import prose_spans, split_sentences
from shared.contracts.problems import Problem

__all__ = ["Checked", "CheckedBy", "Embed", "SupportChecker", "Thresholds", "Verdict", "sentence_spans"]

log = logging.getLogger(__name__)

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""A vector for each text, in their order."""

NEAREST: Final = 6
"""Sentences of the passages, of those with the most words in common, that a sentence is compared with by meaning."""

FEWEST_TERMS: Final = 1

_CITED = re.compile(r"\[(\d{1,3}(?: *[,;] *\d{1,3})*)\]")
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_STATES_NOTHING = re.compile(
    r"\b(?:sources?|documents?|passages?|texts?|context|information)\b.*\b(?:not|no|n't|nothing)\b"
    r"|^\W*(?:yes|no|ja|nein|oui|non|s[ií])\W*$"
    r"|\bno (?:sources?|documents?|passages?|information|answer)\b"
    r"|\b(?:do|does|did|can) ?(?:not|n't) (?:know|say|find)\b",
    re.IGNORECASE,
)


class CheckedBy(StrEnum):
    """What the verdicts rest on. WORDS also where the embedding model was needed and did not answer in time."""

    QUOTES = "quotes"
    WORDS = "words"
    MEANING = "meaning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """`sure` and `hopeless` bound the shares of words between which meaning is asked. Without it `words` decides, with
    it `both`: the mean of share and cosine."""

    sure: float = 0.9
    hopeless: float = 0.2
    words: float = 0.55
    both: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of the sentence at `start` to `end`. `sources` are the passages that support it, by index, best first."""

    sentence: str
    start: int
    end: int
    supported: bool
    score: float
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    verdicts: tuple[Verdict, ...]
    by: CheckedBy


@dataclass(frozen=True, slots=True)
class _Passage:
    index: int
    texts: tuple[str, ...]
    words: tuple[Words, ...]


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A sentence that its words do not decide, and the candidates to compare it with."""

    sentence: str
    share: float
    candidates: tuple[tuple[int, str], ...]


class SupportChecker:
    """Checks the sentences of one answer from `passages`, as the model was shown them.

    `embed` compares by meaning, within `seconds` a call; without it the words decide alone.
    """

    def __init__(
        self,
        passages: Sequence[PromptPassage],
        *,
        embed: Embed | None = None,
        seconds: float = 1.0,
        thresholds: Thresholds = Thresholds(),
    ) -> None:
        self._passages = [_passage(passage) for passage in passages]
        self._embed = embed
        self._seconds = seconds
        self._limits = thresholds
        self._by = CheckedBy.WORDS if embed is None else CheckedBy.MEANING
        self._known: dict[str, Verdict] = {}

    async def check(self, text: str) -> Checked:
        """A verdict for each sentence of `text`. Words alone decide where the embedding model does not answer.

        A sentence that was checked before, at another place, keeps its verdict.
        """
        spans = sentence_spans(text)
        doubts: list[_Doubt] = []
        for sentence in dict.fromkeys(text[start:end] for start, end in spans):
            if sentence not in self._known:
                self._known[sentence], doubt = self._by_words(sentence)
                if doubt is not None:
                    doubts.append(doubt)
        if doubts and self._embed is not None:
            similar = await self._similarities(doubts, self._embed)
            for doubt, cosines in zip(doubts, similar, strict=False):
                self._known[doubt.sentence] = self._by_meaning(self._known[doubt.sentence], doubt, cosines)
        verdicts = (replace(self._known[text[start:end]], start=start, end=end) for start, end in spans)
        return Checked(tuple(verdicts), self._by)

    def know(self, verdict: Verdict, sentence: str) -> None:
        """The sentence, which says the same in another form, has the same verdict."""
        self._known[sentence] = replace(verdict, sentence=sentence)

    def _by_words(self, sentence: str) -> tuple[Verdict, _Doubt | None]:
        words = Words.of(sentence)
        made = Verdict(sentence=sentence, start=0, end=len(sentence), supported=True, score=1.0)
        if len(words.terms) < FEWEST_TERMS or (not words.figures and _STATES_NOTHING.search(sentence)):
            return made, None
        cited = {int(number) for group in _CITED.findall(sentence) for number in re.findall(r"\d+", group)}
        asked = [passage for passage in self._passages if passage.index in cited] or self._passages
        found = {passage.index: contained(words, passage.words) for passage in asked}
        figures = frozenset[str]().union(*(one.figures | one.terms for passage in asked for one in passage.words))
        share = max((one.share for one in found.values()), default=0.0)
        if not words.figures <= figures:
            return replace(made, supported=False, score=round(share / 2, 3)), None
        limit = self._limits
        supported = share >= limit.words
        good = sorted(
            (index for index, one in found.items() if one.share >= limit.words), key=lambda i: -found[i].share
        )
        made = replace(made, supported=supported, score=round(share, 3), sources=tuple(good))
        if not limit.hopeless <= share < limit.sure:
            return made, None
        return made, _Doubt(sentence, share, tuple(_nearest(words, asked)))

    def _by_meaning(self, verdict: Verdict, doubt: _Doubt, cosines: Sequence[float]) -> Verdict:
        best: dict[int, float] = {}
        for (index, _), cosine in zip(doubt.candidates, cosines, strict=True):
            best[index] = max(best.get(index, 0.0), (doubt.share + cosine) / 2)
        score = max(best.values(), default=0.0)
        good = sorted((index for index, one in best.items() if one >= self._limits.both), key=lambda i: -best[i])
        supported = score >= self._limits.both
        return replace(verdict, supported=supported, score=round(score, 3), sources=tuple(good))

    async def _similarities(self, doubts: Sequence[_Doubt], embed: Embed) -> list[list[float]]:
        """The cosines of each doubt with its candidates; nothing where the embedding model does not answer."""
        compared = (text for doubt in doubts for _, text in doubt.candidates)
        texts = list(dict.fromkeys([*(doubt.sentence for doubt in doubts), *compared]))
        row = {text: number for number, text in enumerate(texts)}
        try:
            with anyio.fail_after(self._seconds):
                vectors = await embed(texts)
        except (TimeoutError, Problem, NatsError) as error:
            log.warning("an answer's sentences are checked by their words alone: %r", error)
            self._by, self._embed = CheckedBy.WORDS, None
            return []
        return [
            [_cosine(vectors[row[doubt.sentence]], vectors[row[text]]) for _, text in doubt.candidates]
            for doubt in doubts
        ]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of an answer begin and end, like slices, without white space; code between fences is none."""
    spans: list[tuple[int, int]] = []
    fenced, position = False, 0
    for line in text.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            # A citation belongs to the sentence before it where a space follows.
            for start, end in prose_spans(f"{line} "):
                sentence = line[start:end]
                if any(character.isalnum() for character in sentence):
                    first = position + start + len(sentence) - len(sentence.lstrip())
                    spans.append((first, first + len(sentence.strip())))
        position += len(line) + 1
    return spans


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(mul, one, other)) / lengths if lengths else 0.0


def _passage(passage: PromptPassage) -> _Passage:
    texts = tuple(sentence.text for sentence in split_sentences(passage.text))
    return _Passage(passage.index, texts, tuple(map(Words.of, texts)))


def _nearest(words: Words, passages: Sequence[_Passage]) -> list[tuple[int, str]]:
    """The sentences with the most words in common, with the index of their passage."""
    common = [
        (len(words.terms & other.terms) / (len(other.terms) or 1) ** 0.5, passage.index, text)
        for passage in passages
        for text, other in zip(passage.texts, passage.words, strict=True)
    ]
    common.sort(key=lambda one: -one[0])
    return [(index, text) for _, index, text in common[:NEAREST]]
