"""From reply events to one answer, whatever tries at it were made. Pure: no I/O, no clock.

A try is one (attempt, delivery) of the stage that answers. Work is redelivered when a worker dies and submitted again
when the broker does, so the text may start anew. What a reader has been given stands: the text of the newer try is
compared with it as it comes, and the answer goes on where they part in length; where they differ it cannot go on.
"""

from dataclasses import dataclass, field

from shared.envelope import Hop, Passage
from shared.problems import Problem, ProblemType
from shared.reply import AnyEvent, Delta, Done, Failed, Progress, Result, Sources, Usage

__all__ = ["Answer", "Ended", "NewSources", "NewText", "Part"]


@dataclass(frozen=True, slots=True)
class NewSources:
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class NewText:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    usage: Usage = field(default_factory=Usage)
    engine: str = ""
    trail: tuple[Hop, ...] = ()


Part = NewSources | NewText | Ended


@dataclass(slots=True)
class _Try:
    """What one try has sent so far; `length` in characters."""

    attempt: int = 0
    delivery: int = 0
    stage: str = ""
    deltas: int = 0
    length: int = 0
    pieces: list[str] = field(default_factory=list)


class Answer:
    """Takes events in the order in which they come, and says what is new to the reader.

    `standing`: what was given out cannot be taken back, as in a stream. Otherwise the newest try is the answer.
    """

    def __init__(self, *, standing: bool) -> None:
        self._standing = standing
        self._try = _Try()
        self._attempt = 1
        self._deliveries: dict[str, int] = {}
        self._sources: tuple[Passage, ...] | None = None
        self._given = ""

    @property
    def sources(self) -> tuple[Passage, ...]:
        return self._sources or ()

    @property
    def text(self) -> str:
        """The text of the newest try so far."""
        return "".join(self._try.pieces)

    def expect(self, attempt: int) -> None:
        """Nothing of an earlier attempt counts from now on."""
        if attempt > self._attempt:
            self._attempt = attempt
            self._deliveries.clear()

    def take(self, event: AnyEvent) -> tuple[Part, ...]:
        """What the event adds to what the reader has; nothing if it is stale or already known.

        Raises the Problem that the event reports, or ANSWER_INTERRUPTED where the answer cannot be continued.
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
            case Result():
                ended = Ended(trail=event.query.trail)
                return (*self._take_sources(event.query.passages), ended)
            case Failed():
                raise _failure(event)
            case Progress():
                return ()

    def _is_stale(self, event: AnyEvent) -> bool:
        if event.attempt != self._attempt:
            if event.attempt < self._attempt:
                return True
            self.expect(event.attempt)
        # Deliveries of different stages are counted apart: only those of one stage can be compared.
        known = self._deliveries.get(event.stage, 0)
        if event.delivery < known:
            return True
        if event.delivery > known:
            self._deliveries[event.stage] = event.delivery
        return False

    def _take_delta(self, event: Delta) -> tuple[Part, ...]:
        self._follow(event)
        current = self._try
        if event.index != current.deltas:
            raise _interrupted("a piece of it was lost")
        current.deltas += 1
        start = current.length
        current.pieces.append(event.text)
        current.length += len(event.text)
        if start >= len(self._given):
            return (NewText(event.text),) if event.text else ()
        repeated = self._given[start : current.length]
        if event.text[: len(repeated)] != repeated:
            raise _interrupted("its worker was lost, and another one answered differently")
        new = event.text[len(repeated) :]
        return (NewText(new),) if new else ()

    def _take_sources(self, passages: tuple[Passage, ...]) -> tuple[Part, ...]:
        known, self._sources = self._sources, passages
        if known is None or not self._standing:
            return (NewSources(passages),)
        if [_place(p) for p in known] != [_place(p) for p in passages]:
            raise _interrupted("its worker was lost, and another one found other sources")
        return ()

    def _take_done(self, event: Done) -> tuple[Part, ...]:
        self._follow(event)
        if event.deltas != self._try.deltas:
            raise _interrupted("a piece of it was lost")
        if self._try.length < len(self._given):
            raise _interrupted("its worker was lost, and another one answered differently")
        return (Ended(usage=event.usage, engine=event.engine, trail=event.trail),)

    def _follow(self, event: Delta | Done) -> None:
        """Begin anew where the event belongs to another try than the one before it."""
        current = self._try
        if (event.attempt, event.delivery, event.stage) == (current.attempt, current.delivery, current.stage):
            return
        if self._standing and current.length > len(self._given):
            self._given = self.text
        self._try = _Try(event.attempt, event.delivery, event.stage)


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
