"""The engine without weights: it quotes the sentences that answer best, each with its citation."""

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from services.generator.engines.base import (
    EngineName,
    Finish,
    FinishReason,
    Item,
    Prepared,
    Prompt,
    PromptPassage,
    TextDelta,
)
from services.generator.grounding.decline import decline
from services.generator.grounding.relevance import Candidate, Scored, overlap, rank
from shared.analysis.sentences import SentenceKind, is_complete, split_sentences
from shared.contracts.events import Delivered, Usage
from shared.contracts.generation import ContextReport, Mode
from shared.contracts.problems import Problem, ProblemType

__all__ = ["ExtractiveConfig", "ExtractiveEngine"]

CLOSEST = " The closest passage says: "

ENOUGH_COVERAGE = 0.3  # of the question's weight, in the best sentence, for it to count as an answer
CLOSE_TO_BEST = 0.55  # of the best score, for a further sentence
SAME = 0.6  # word overlap from which a sentence repeats another
CHARACTERS_PER_TOKEN = 4
THREAD_FROM = 6_000  # characters of passages; 9,000 took 6 ms, so below this about 4

_REFERENCE = re.compile(r"\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractiveConfig:
    """How much to quote."""

    sentences: int = 3
    characters: int = 800
    room: int = 32


@dataclass(frozen=True, slots=True)
class _Quote:
    text: str
    index: int
    kind: SentenceKind


class ExtractiveEngine:
    """Quotes up to `sentences` sentences within `characters` (and `max_tokens`), grouped by passage, the best first.

    The same prompt gives the same answer. Where no sentence answers, it says so and quotes the closest one. A
    bracketed number inside a quoted sentence becomes round, since it is no citation of this answer. Usage counts
    words, for want of tokens. Of the parameters only `max_tokens` has a meaning here, and of the conversation only the
    stand-alone form of the question.
    """

    name = EngineName.EXTRACTIVE.value
    model = ""
    resumes = False
    adapters = ()

    def __init__(self, config: ExtractiveConfig) -> None:
        self._config = config
        self._places = anyio.Semaphore(config.room)
        self.room = config.room

    async def start(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to close."""

    async def prepare(self, prompt: Prompt) -> Prepared:
        if prompt.params.mode is not Mode.ANSWER or prompt.params.constrained:
            raise Problem(
                ProblemType.INVALID_REQUEST,
                "The extractive engine only quotes the sources of an answer; it is no language model. "
                "Run the generator with SLUICE_ENGINE=vllm or openai.",
            )
        joined = tuple(passage.index for passage in prompt.passages if passage.own)
        return Prepared(prompt=prompt, context=ContextReport(joined=joined))

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:  # noqa: ARG002
        prompt = prepared.prompt
        async with self._places:
            if sum(len(passage.text) for passage in prompt.passages) < THREAD_FROM:
                pieces, reason = self._answer(prompt)
            else:
                pieces, reason = await anyio.to_thread.run_sync(self._answer, prompt, abandon_on_cancel=True)
            for piece in pieces:
                await checkpoint()
                yield TextDelta(text=piece)
            yield Finish(reason, _usage(prompt, pieces))

    def _answer(self, prompt: Prompt) -> tuple[list[str], FinishReason]:
        ranked = rank(prompt.standalone or prompt.question, list(_candidates(prompt.passages)))
        scored = [one for one in ranked if one.score > 0]
        declined = decline(found=bool(prompt.passages), absent=prompt.absent)
        room = min(
            self._config.characters, (prompt.params.max_tokens or self._config.characters) * CHARACTERS_PER_TOKEN
        )
        covered = max((one.coverage for one in scored[:3]), default=0.0) >= ENOUGH_COVERAGE
        if prompt.answerable and not covered:
            # The words differ, but the passages are near in meaning: the best one is the first.
            scored = sorted((one for one in ranked if one.candidate.passage == 0), key=lambda one: -one.score)[:1]
        elif not prompt.answerable and (prompt.answerable is not None or not covered):
            if not scored or prompt.absent:
                return [declined], FinishReason.STOP
            closest = _quote(scored[0], prompt.passages, room)
            return [declined, f"{CLOSEST}{closest.text} [{closest.index}]"], FinishReason.STOP
        if not scored:
            return [declined], FinishReason.STOP
        chosen, reason = self._choose(scored, room)
        quotes = [_quote(one, prompt.passages, room) for one in _readable(chosen)]
        return list(_pieces(quotes)), reason

    def _choose(self, scored: Sequence[Scored], room: int) -> tuple[list[Scored], FinishReason]:
        """The best sentences that say something new and fit; LENGTH when one was left out for its length alone."""
        best = scored[0]
        chosen = [best]
        used = len(best.candidate.text)
        reason = FinishReason.LENGTH if used > room else FinishReason.STOP
        for one in scored[1:]:
            if len(chosen) == self._config.sentences or one.score < CLOSE_TO_BEST * best.score:
                break
            if any(overlap(one.candidate.text, kept.candidate.text) >= SAME for kept in chosen):
                continue
            if used + len(one.candidate.text) > room:
                reason = FinishReason.LENGTH
                continue
            chosen.append(one)
            used += len(one.candidate.text)
        return chosen, reason


def _candidates(passages: Sequence[PromptPassage]) -> Iterator[Candidate]:
    for number, passage in enumerate(passages):
        heading = ""
        for position, sentence in enumerate(split_sentences(passage.text)):
            if sentence.kind is SentenceKind.HEADING:
                heading = sentence.text
            elif any(character.isalnum() for character in sentence.text):
                yield Candidate(sentence.text, sentence.kind, number, position, heading)


def _readable(chosen: Sequence[Scored]) -> list[Scored]:
    """Grouped by passage, the one with the best sentence first, each in the order of its text."""
    first: dict[int, int] = {}
    for place, one in enumerate(chosen):
        first.setdefault(one.candidate.passage, place)
    return sorted(chosen, key=lambda one: (first[one.candidate.passage], one.candidate.position))


def _quote(one: Scored, passages: Sequence[PromptPassage], room: int) -> _Quote:
    text = _REFERENCE.sub(r"(\1)", one.candidate.text)
    if len(text) > room:
        text = text[:room].rpartition(" ")[0] or text[:room]
        text += " …"
    return _Quote(text, passages[one.candidate.passage].index, one.candidate.kind)


def _pieces(quotes: Sequence[_Quote]) -> Iterator[str]:
    """Sentences follow on one line; what is no full sentence gets a line of its own."""
    before: _Quote | None = None
    for quote in quotes:
        flows = before is not None and _is_sentence(before) and _is_sentence(quote)
        separator = "" if before is None else " " if flows else "\n"
        yield f"{separator}{quote.text} [{quote.index}]"
        before = quote


def _is_sentence(quote: _Quote) -> bool:
    return quote.kind is SentenceKind.PROSE and is_complete(quote.text)


def _usage(prompt: Prompt, pieces: Sequence[str]) -> Usage:
    read = len(prompt.question.split()) + sum(len(passage.text.split()) for passage in prompt.passages)
    return Usage(prompt_tokens=read, completion_tokens=sum(len(piece.split()) for piece in pieces))
