"""Assembles one answer from reply events, over all tries of the stage that answers. Pure: no I/O, no clock.

A try is one (attempt, delivery) of the stage. Work is redelivered when a worker dies and submitted again when the
broker does. A new try asks what has been delivered to the reader and continues from there. One that cannot writes the
answer from the beginning, and is compared with the delivered text: the answer continues where that ends, and is
interrupted where the two differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from shared.contracts.envelope import Hop, Passage
from shared.contracts.events import (
    AnyEvent,
    Delivered,
    Delta,
    Done,
    Failed,
    Progress,
    Result,
    Resumed,
    SentenceSupport,
    Sources,
    Usage,
    Waiting,
)
from shared.contracts.generation import ContextReport, TokenLogprob, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import Results, Searched

__all__ = [
    "AnswerAssembler",
    "Ended",
    "NewReasoning",
    "NewSources",
    "NewText",
    "NewToolCall",
    "Part",
    "PartLostError",
    "ToolCall",
]


class PartLostError(Problem):
    """Events of an answer did not arrive. Another attempt may go on from what has been delivered."""

    def __init__(self) -> None:
        super().__init__(ProblemType.ANSWER_INTERRUPTED, "The answer broke off: a part of it was lost. Ask again.")


@dataclass(frozen=True, slots=True)
class NewSources:
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class NewText:
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class NewReasoning:
    """What the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToolCall:
    """A piece of the tool call with this `index`; `id` and `name` come with its first piece."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """`notes` and `results` are those of the envelope, where no stage streamed an answer."""

    usage: Usage = field(default_factory=Usage)
    engine: str = ""
    model: str = ""
    finish: str = "stop"
    context: ContextReport = field(default_factory=ContextReport)
    cited: tuple[int, ...] = ()
    supported: tuple[SentenceSupport, ...] = ()
    supported_by: str = ""
    confidence: float | None = None
    answerable: bool | None = None
    searched: Searched | None = None
    trail: tuple[Hop, ...] = ()
    notes: Mapping[str, JsonValue] = field(default_factory=dict)
    results: Results | None = None


Part = NewSources | NewText | NewReasoning | NewToolCall | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A whole tool call; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class _Text:
    """One kind of text of the answer: what was `delivered`, and what the newest try has written."""

    delivered: str = ""
    length: int = 0
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def whole(self) -> bool:
        return self.length >= len(self.delivered)

    def restart(self, *, append_only: bool) -> None:
        if append_only and self.length > len(self.delivered):
            self.delivered = self.text
        self.pieces = []
        self.length = 0

    def write(self, text: str) -> str:
        """The part of the text that is new. Raises Problem ANSWER_INTERRUPTED where it differs from `delivered`."""
        start = self.length
        self.pieces.append(text)
        self.length += len(text)
        if start >= len(self.delivered):
            return text
        repeated = self.delivered[start : self.length]
        if not text.startswith(repeated):
            raise _interrupted("its worker was lost, and another one answered differently")
        return text[len(repeated) :]


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    announced: bool = False
    arguments: _Text = field(default_factory=_Text)


@dataclass(slots=True)
class _Try:
    """Which try of which visit it is and how many deltas it has sent. `tokens` is None where the text came without."""

    attempt: int = 0
    delivery: int = 0
    stage: str = ""
    deltas: int = 0
    tokens: list[int] | None = field(default_factory=list)
    visit: int = 0


class AnswerAssembler:
    """Takes events in the order in which they arrive, and returns what is new to the reader.

    `append_only`: what was delivered cannot be taken back, as in a stream. Otherwise the newest try is the answer.
    """

    def __init__(self, *, append_only: bool) -> None:
        self._append_only = append_only
        self._try = _Try()
        self._attempt = 1
        self._deliveries: dict[tuple[str, int, str], tuple[int, int]] = {}
        self._sources: tuple[Passage, ...] | None = None
        self._text = _Text()
        self._reasoning = _Text()
        self._calls: dict[int, _Call] = {}
        self._logprobs: list[TokenLogprob] = []
        self._delivered = Delivered()
        self._delivered_logprobs: list[TokenLogprob] = []

    @property
    def sources(self) -> tuple[Passage, ...]:
        return self._sources or ()

    @property
    def text(self) -> str:
        """The text of the newest try so far."""
        return self._text.text

    @property
    def reasoning(self) -> str:
        return self._reasoning.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """In the order of their indexes."""
        calls = (call for _, call in sorted(self._calls.items()))
        return tuple(ToolCall(id=call.id, name=call.name, arguments=call.arguments.text) for call in calls)

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        return tuple(self._logprobs)

    def expect(self, attempt: int) -> None:
        """Earlier attempts are stale from now on."""
        if attempt > self._attempt:
            self._attempt = attempt
            self._deliveries.clear()

    def report_delivered(self, progress: Progress) -> Delivered | None:
        """What was delivered, for a new try that continues from there; None for a try that is itself stale.

        Earlier tries are stale from now on.
        """
        if self._is_stale(progress):
            return None
        text = self._text.text if self._text.whole else self._text.delivered
        tokens = self._try.tokens if self._text.whole else None
        if self._reasoning.length or self._reasoning.delivered or self._calls:
            # Only text can be continued.
            text, tokens = "", None
        self._delivered = Delivered(text=text, tokens=tuple(tokens or ()))
        self._delivered_logprobs = self._logprobs if text else []
        return self._delivered

    def take(self, event: AnyEvent) -> tuple[Part, ...]:
        """What the event adds to the answer; nothing if it is stale or already known.

        Raises the Problem that the event reports, PartLostError, or ANSWER_INTERRUPTED where the answer cannot be
        continued.
        """
        if self._is_stale(event):
            return ()
        match event:
            case Delta():
                return self._take_delta(event)
            case Sources():
                return self._take_sources(event.passages)
            case Done():
                return self._take_done(event)
            case Resumed():
                self._follow(event)
                self._resume(event.characters)
                return ()
            case Result():
                ended = Ended(trail=event.query.trail, notes=event.query.notes, results=event.query.results)
                return (*self._take_sources(event.query.passages), ended)
            case Failed():
                raise _failure(event)
            case Progress() | Waiting():
                return ()

    def _is_stale(self, event: AnyEvent) -> bool:
        if event.attempt != self._attempt:
            if event.attempt < self._attempt:
                return True
            self.expect(event.attempt)
        if event.branch and isinstance(event, Delta | Done | Resumed | Sources):
            return True  # the answer is what comes after the branches
        if (
            isinstance(event, Delta | Done | Resumed)
            and event.stage == self._try.stage
            and event.visit < self._try.visit
        ):
            return True  # the pipeline gave up on that visit, and the stage has answered in a later one
        # Deliveries of different stages and visits are counted apart: only those of one visit can be compared.
        visit = event.stage, event.visit, event.branch
        known, message = self._deliveries.get(visit, (0, 0))
        if event.delivery > known:
            self._deliveries[visit] = event.delivery, event.message
            return False
        return event.delivery < known or event.message != message

    def _take_delta(self, event: Delta) -> tuple[Part, ...]:
        self._follow(event)
        current = self._try
        if event.index != current.deltas:
            raise PartLostError
        current.deltas += 1
        if not event.tokens:
            current.tokens = None
        elif current.tokens is not None:
            current.tokens += event.tokens
        self._logprobs += event.logprobs
        parts: list[Part] = []
        if reasoning := self._reasoning.write(event.reasoning):
            parts.append(NewReasoning(reasoning))
        text = self._text.write(event.text)
        if text or (event.logprobs and not event.text):  # a token may be part of a character, without text of its own
            parts.append(NewText(text, event.logprobs))
        for call in event.tool_calls:
            parts += self._take_call(call)
        return tuple(parts)

    def _take_call(self, piece: ToolCallDelta) -> tuple[NewToolCall, ...]:
        call = self._calls.setdefault(piece.index, _Call())
        call.id = piece.id or call.id
        if piece.name and call.name and piece.name != call.name:
            raise _interrupted("its worker was lost, and another one answered differently")
        call.name = piece.name or call.name
        new = call.arguments.write(piece.arguments)
        if call.announced:
            return (NewToolCall(index=piece.index, arguments=new),) if new else ()
        call.announced = True
        return (NewToolCall(index=piece.index, id=call.id, name=call.name, arguments=new),)

    def _take_sources(self, passages: tuple[Passage, ...]) -> tuple[Part, ...]:
        known, self._sources = self._sources, passages
        if known is None or not self._append_only:
            return (NewSources(passages),)
        if [_place(p) for p in known] != [_place(p) for p in passages]:
            raise _interrupted("its worker was lost, and another one found other sources")
        return ()

    def _take_done(self, event: Done) -> tuple[Part, ...]:
        self._follow(event)
        if event.deltas != self._try.deltas:
            raise PartLostError
        if not all(writing.whole for writing in self._texts()):
            raise _interrupted("its worker was lost, and another one answered differently")
        ended = Ended(
            usage=event.usage,
            engine=event.engine,
            model=event.model,
            finish=event.finish,
            context=event.context,
            cited=event.cited,
            supported=event.supported,
            supported_by=event.supported_by,
            confidence=event.confidence,
            answerable=event.answerable,
            searched=event.searched,
            trail=event.trail,
        )
        return (ended,)

    def _follow(self, event: Delta | Done | Resumed) -> None:
        """Restart the texts where the event belongs to another try than the one before it."""
        current = self._try
        if (event.attempt, event.delivery, event.stage, event.visit) == (
            current.attempt,
            current.delivery,
            current.stage,
            current.visit,
        ):
            return
        for writing in self._texts():
            writing.restart(append_only=self._append_only)
        if not self._append_only:
            self._calls.clear()
        self._logprobs = []
        self._try = _Try(event.attempt, event.delivery, event.stage, visit=event.visit)

    def _resume(self, characters: int) -> None:
        """The newest try continues after this many characters of what was handed over."""
        delivered = self._delivered
        if characters != len(delivered.text):
            raise _interrupted("its worker was lost, and another one continued from elsewhere")
        self._logprobs = list(self._delivered_logprobs)
        self._text.pieces = [delivered.text]
        self._text.length = characters
        self._try.tokens = list(delivered.tokens) if delivered.tokens or not delivered.text else None

    def _texts(self) -> tuple[_Text, ...]:
        return (self._text, self._reasoning, *(call.arguments for call in self._calls.values()))


def _place(passage: Passage) -> tuple[str, int, str]:
    # Scores may differ in their last digits from one worker to the next.
    return passage.document_id, passage.position, passage.text


def _failure(event: Failed) -> Problem:
    problem = Problem.from_details(event.problem)
    if event.stage:
        problem.extras.setdefault("stage", event.stage)
    return problem


def _interrupted(why: str) -> Problem:
    return Problem(ProblemType.ANSWER_INTERRUPTED, f"The answer broke off: {why}. Ask again.")
