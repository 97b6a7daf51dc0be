"""The prompt: what of instructions, conversation, passages and question fits into the model's context window."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from shared.analysis.sentences import SentenceKind, split_sentences
from shared.contracts.envelope import Message
from shared.contracts.generation import ContextReport, Mode
from shared.contracts.problems import Problem, ProblemType
from shared.prompting.history import exchanges, full_text, instructions
from shared.prompting.prompt import Prompt, PromptPassage
from shared.prompting.sanitizer import Sanitizer
from shared.prompting.templating import Source, TemplateName, Templates

__all__ = ["Built", "PromptBuilder", "Templates"]

HISTORY_SHARE: Final = 4
"""The conversation so far gets one part in so many of the window."""

MESSAGE_OVERHEAD: Final = 8
"""Tokens that a chat template writes around each message, with room to spare."""

LONGEST_TOKEN: Final = 24
"""Characters a token has at most on average. A passage that must be too long by this is not counted as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The messages to write from, and what became of the material; a completion has none."""

    messages: tuple[Message, ...]
    context: ContextReport


@dataclass(frozen=True, slots=True)
class _Fit:
    """The sources that are shown, best first, and the index of the last one if it is only its first sentences."""

    sources: tuple[Source, ...]
    shortened: tuple[int, ...] = ()


class PromptBuilder:
    """Fits prompts into a window of `window` tokens, as `count` counts them.

    An answer's messages are, in this order, so that prompts begin alike and an engine's prefix cache helps:

    1. the instructions of the template with those of the application after them, always whole;
    2. the newest exchanges of the conversation, each whole or not at all, in a quarter of the window at most;
    3. the sources, and the question, which is always whole. By rank, the first passage that does not fit is cut after a
       sentence, or dropped where not one sentence fits; all after it are dropped. Where all fit, those for which there
       is room are joined with the text around them, by rank too. The passages of one document stand together in reading
       order, where the best of them has its place.

    A chat keeps its messages as they are. `overhead` is the tokens that a chat template adds to each message.
    `special` are the tokenizer's control tokens: no text of an answer's prompt can spell one (see `Sanitizer`).
    Calls share nothing that changes, so they may run in several threads at once.
    """

    def __init__(
        self,
        templates: Templates,
        *,
        count: Callable[[str], int],
        window: int,
        overhead: int = MESSAGE_OVERHEAD,
        special: Iterable[str] = (),
    ) -> None:
        self._templates = templates
        self._count = count
        self._window = window
        self._overhead = overhead
        self._sanitize = Sanitizer(templates.tags, special)
        self._per_source = self._measure_source()

    def build(self, prompt: Prompt, *, reserve: int) -> Built:
        """The messages in at most `window` - `reserve` tokens: the reserve is for what the model writes.

        Raises Problem CONTEXT_EXCEEDED, with the figures, where what cannot be left out does not fit.
        """
        params = prompt.params
        tools = self._count(json.dumps(params.tools)) if params.tools and params.tool_choice != "none" else 0
        room = self._window - reserve - tools
        match params.mode:
            case Mode.ANSWER:
                built = self._answer(prompt, room)
            case Mode.CHAT:
                built = Built(messages=prompt.messages, context=self._report(self._tokens(prompt.messages)))
            case Mode.COMPLETION:
                built = Built(messages=(), context=self._report(self._count(prompt.question)))
        needed = built.context.prompt_tokens
        if needed > room:
            raise self._exceeded(needed + tools, reserve)
        return Built(
            messages=built.messages, context=built.context.model_copy(update={"prompt_tokens": needed + tools})
        )

    def _answer(self, prompt: Prompt, room: int) -> Built:
        """As much as fits into `room`; more than that only where what cannot be left out is more."""
        system = self._message(TemplateName.ANSWER_SYSTEM, instructions=instructions(prompt.messages))
        question = self._sanitize.speech(prompt.question)
        fixed = self._tokens((system, self._user(question, ())))
        turns = [tuple(map(self._sanitized_turn, exchange)) for exchange in exchanges(prompt.messages)]
        kept = self._newest(turns, min(self._window // HISTORY_SHARE, room - fixed))
        counts: dict[str, int] = {}
        left = room - fixed - self._tokens(_flat(kept))
        while True:
            fit = self._fit(prompt.passages, left, counts)
            messages = (system, *_flat(kept), self._user(question, _arranged(fit.sources, prompt.passages)))
            total = self._tokens(messages)
            if total <= room or not (kept or fit.sources):
                break
            # Parts can have more tokens together than each alone: take what is over from the least important.
            left -= total - room
            if not fit.sources:
                kept = kept[1:]
        wider, joined = self._joined(prompt.passages, fit, room - total, counts)
        if joined:
            widened = (*messages[:-1], self._user(question, _arranged(wider, prompt.passages)))
            if (needed := self._tokens(widened)) <= room:
                messages, total = widened, needed
            else:
                joined = ()
        shown = {source.index for source in fit.sources}
        context = self._report(
            total,
            dropped=tuple(passage.index for passage in prompt.passages if passage.index not in shown),
            shortened=fit.shortened,
            joined=joined,
            dropped_turns=len(turns) - len(kept),
        )
        return Built(messages=messages, context=context)

    def _newest(self, turns: Sequence[tuple[Message, ...]], room: int) -> list[tuple[Message, ...]]:
        first = len(turns)
        while first > 0 and (cost := self._tokens(turns[first - 1])) <= room:
            first -= 1
            room -= cost
        return list(turns[first:])

    def _fit(self, passages: Sequence[PromptPassage], room: int, counts: dict[str, int]) -> _Fit:
        """`counts` remembers the texts that have been counted."""
        shown: list[Source] = []
        for passage in (passage.alone for passage in passages):
            name = self._sanitize.name(passage.document)
            room -= self._per_source + self._counted(name, counts)
            if room <= 0:
                break
            if len(passage.text) <= room * LONGEST_TOKEN:
                text = self._sanitize.data(passage.text)
                cost = self._counted(text, counts)
                if cost <= room:
                    shown.append(Source(index=passage.index, document=name, text=text))
                    room -= cost
                    continue
            if head := self._first_sentences(passage.text, room, counts):
                shown.append(Source(index=passage.index, document=name, text=head))
                return _Fit(tuple(shown), (passage.index,))
            break
        return _Fit(tuple(shown))

    def _joined(
        self, passages: Sequence[PromptPassage], fit: _Fit, room: int, counts: dict[str, int]
    ) -> tuple[tuple[Source, ...], tuple[int, ...]]:
        """The sources, with the text around them where that fits into `room` more tokens, and which ones these are."""
        if fit.shortened or len(fit.sources) < len(passages):
            return fit.sources, ()
        sources: list[Source] = []
        joined: list[int] = []
        for passage, source in zip(passages, fit.sources, strict=True):
            if passage.own and len(passage.text) - len(passage.own) <= room * LONGEST_TOKEN:
                wider = replace(source, text=self._sanitize.data(passage.text))
                cost = self._counted(wider.text, counts) - self._counted(source.text, counts)
                if cost <= room:
                    sources.append(wider)
                    joined.append(passage.index)
                    room -= cost
                    continue
            sources.append(source)
        return tuple(sources), tuple(joined)

    def _first_sentences(self, text: str, room: int, counts: dict[str, int]) -> str:
        """The longest beginning of `text` that ends with a sentence and fits; empty when only headings would."""
        kept: list[str] = []
        speaks = False
        for sentence in split_sentences(text):
            line = self._sanitize.data(sentence.text)
            room -= self._counted(line, counts) + 1
            if room < 0:
                break
            kept.append(line)
            speaks = speaks or sentence.kind is not SentenceKind.HEADING
        return "\n".join(kept) if speaks else ""

    def _counted(self, text: str, counts: dict[str, int]) -> int:
        if text not in counts:
            counts[text] = self._count(text)
        return counts[text]

    def _measure_source(self) -> int:
        """Tokens that the template writes around one more source."""
        blank = [Source(index=index, document="", text="") for index in (111, 112, 113)]
        few = self._count(self._templates.render(TemplateName.ANSWER_USER, question="", sources=blank[:1]))
        more = self._count(self._templates.render(TemplateName.ANSWER_USER, question="", sources=blank))
        return max(1, -(-(more - few) // 2))

    def _message(self, name: TemplateName, **variables: str) -> Message:
        return Message(role="system", content=self._templates.render(name, **variables))

    def _user(self, question: str, sources: Sequence[Source]) -> Message:
        text = self._templates.render(TemplateName.ANSWER_USER, question=question, sources=sources)
        return Message(role="user", content=text)

    def _sanitized_turn(self, message: Message) -> Message:
        if message.content is None:
            return message
        return message.model_copy(update={"content": self._sanitize.speech(message.content)})

    def _tokens(self, messages: Iterable[Message]) -> int:
        return sum(self._count(full_text(message)) + self._overhead for message in messages)

    def _report(
        self,
        tokens: int,
        dropped: tuple[int, ...] = (),
        shortened: tuple[int, ...] = (),
        joined: tuple[int, ...] = (),
        dropped_turns: int = 0,
    ) -> ContextReport:
        return ContextReport(
            window=self._window,
            prompt_tokens=tokens,
            dropped=dropped,
            shortened=shortened,
            joined=joined,
            dropped_turns=dropped_turns,
        )

    def _exceeded(self, needed: int, reserve: int) -> Problem:
        return Problem(
            ProblemType.CONTEXT_EXCEEDED,
            f"What cannot be left out of the prompt has {needed:,} tokens. The model's context window has "
            f"{self._window:,}, of which {reserve:,} are kept for the answer.",
            window=self._window,
            prompt_tokens=needed,
            reserved=reserve,
        )


def _arranged(sources: Sequence[Source], passages: Sequence[PromptPassage]) -> list[Source]:
    """The sources of one document together in reading order, where the best of them is by rank."""
    of = {passage.index: passage for passage in passages}
    first: dict[object, int] = {}
    for source in sources:
        first.setdefault(of[source.index].document_id or source.index, source.index)
    return sorted(
        sources,
        key=lambda one: (first[of[one.index].document_id or one.index], of[one.index].position, one.index),
    )


def _flat(turns: Iterable[tuple[Message, ...]]) -> tuple[Message, ...]:
    return tuple(message for turn in turns for message in turn)
