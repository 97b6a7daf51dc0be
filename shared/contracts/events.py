"""The events that stages send to the caller of a query, as they travel on its reply subject."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from shared.contracts.envelope import Hop, Passage, Query
from shared.contracts.generation import ContextReport, TokenLogprob, ToolCallDelta
from shared.contracts.problems import ProblemDetails
from shared.contracts.results import Searched
from shared.contracts.wire import Wire

__all__ = [
    "AnyEvent",
    "Cancel",
    "Delivered",
    "Delta",
    "Done",
    "Event",
    "Failed",
    "Progress",
    "Result",
    "Resumed",
    "SentenceSupport",
    "Sources",
    "Usage",
    "Waiting",
    "decode_event",
    "encode_event",
    "join_events",
]


class Usage(Wire):
    """Tokens as the engine counts them; `cached_tokens` of the prompt were in its cache already."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class SentenceSupport(Wire):
    """Whether the passages support a sentence of the answer: the cited ones, or all where it cites none.

    `start` and `end` bound it in the answer's text, like a slice; they are equal where it was left out. `score` is 0 to
    1. `sources` are the passages that support it, as citations count them.
    """

    sentence: str
    start: int
    end: int
    supported: bool
    score: float
    sources: tuple[int, ...] = ()


class _Event(Wire):
    """`attempt` and `delivery` order the tries at one query: events of an older try are stale.

    `message` is the broker's number of the message that a try works on. The same work published twice makes two tries
    at once with the same attempt and delivery: the one whose event comes first counts. `visit` tells the visits of one
    stage apart: 0 for the first, later ones have higher numbers. `branch` is the envelope's.
    """

    attempt: int = 1
    delivery: int = 1
    message: int = 0
    stage: str = ""
    visit: int = 0
    branch: str = ""


class Progress(_Event):
    """A worker has taken the query and started on it."""

    type: Literal["progress"] = "progress"
    worker: str = ""


class Waiting(_Event):
    """The query waits for its next stage as the message of this number, and its pipeline gives the stage until this
    Unix time."""

    type: Literal["waiting"] = "waiting"
    sequence: int
    until: float


class Sources(_Event):
    """The passages that the answer is made from, in citation order."""

    type: Literal["sources"] = "sources"
    passages: tuple[Passage, ...]


class Resumed(_Event):
    """A new try at the answer does not start again: its deltas go on after the first `characters` of the text."""

    type: Literal["resumed"] = "resumed"
    characters: int


class Delta(_Event):
    """The next piece of the answer. `index` counts from 0 without gaps within one try.

    `tokens` are the engine's own for this piece, so that another replica can go on from exactly here.
    """

    type: Literal["delta"] = "delta"
    index: int
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens: tuple[int, ...] = ()


class Done(_Event):
    """The answer is complete. `deltas` is how many pieces it had, `cited` the sources that its citations name.

    `supported` judges each sentence of an answer from sources, by `supported_by`: its `words` or also its `meaning`.
    """

    type: Literal["done"] = "done"
    deltas: int
    usage: Usage = Usage()
    engine: str = ""
    model: str = ""
    finish: str = "stop"
    context: ContextReport = ContextReport()
    cited: tuple[int, ...] = ()
    supported: tuple[SentenceSupport, ...] = ()
    supported_by: str = ""
    confidence: float | None = None
    answerable: bool | None = None
    searched: Searched | None = None
    trail: tuple[Hop, ...] = ()


class Result(_Event):
    """The slip ended at a stage that does not stream: the envelope as that stage left it."""

    type: Literal["result"] = "result"
    query: Query


class Failed(_Event):
    """The query ends here, with a problem."""

    type: Literal["failed"] = "failed"
    problem: ProblemDetails
    trail: tuple[Hop, ...] = ()


AnyEvent = Progress | Waiting | Sources | Resumed | Delta | Done | Result | Failed
Event = Annotated[AnyEvent, Field(discriminator="type")]
_events: TypeAdapter[AnyEvent] = TypeAdapter(Event)


def encode_event(event: AnyEvent) -> bytes:
    # Only what was set is sent, and the type must be.
    event.__pydantic_fields_set__.add("type")
    return event.__pydantic_serializer__.to_json(event, exclude_unset=True)


def decode_event(data: bytes) -> AnyEvent:
    """Raises pydantic.ValidationError for anything that is no event."""
    return _events.validate_json(data)


def join_events(encoded: Iterable[bytes]) -> bytes:
    """Several encoded events as one message, for a query whose reader takes them `joined`."""
    return b"\n".join(encoded)


class Delivered(Wire):
    """What a reader has been given of an answer: its text, and the engine's tokens for it if all of it came with some.

    A worker asks for it with a `Progress` of its own try on `delivered_subject`. The gateway that answers takes nothing
    more from earlier tries, so the text stands still.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()


class Cancel(Wire):
    """Stop all work on a query. `at` is the Unix time at which the asker lost interest."""

    query: str
    at: float
