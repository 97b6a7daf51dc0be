"""The query envelope: what travels from stage to stage, and the slip that says where to.

An envelope is immutable. A stage returns a copy with what it has added; the stage runtime takes the visited stop off
the slip and forwards the copy to the next one. On the wire it is JSON; vectors are base64url little-endian float32.
Members that a reader does not know are kept and passed on, so that services of neighbouring versions work together.
"""

import struct
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, JsonValue

from shared.contracts.results import Expansion, Results, SearchOutcome
from shared.contracts.tensors import InferenceOutcome
from shared.contracts.wire import Wire

__all__ = [
    "Hop",
    "Lane",
    "Message",
    "Name",
    "Neighbour",
    "Passage",
    "PassageCopy",
    "Query",
    "Scalar",
    "Stop",
    "Tenant",
    "Vector",
    "pack_vector",
    "unpack_vector",
]

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
"""A stage or a variant: it becomes one token of a subject and part of a consumer's name."""

Tenant = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""A tenant: the last token of a query's subject, so that the broker bounds each tenant's backlog on its own."""

Subject = Annotated[str, Field(pattern=r"^[^\s*>]+$")]
"""Where to send messages to: no wildcards, and nothing that could end a line of the broker's protocol."""

Scalar = str | bool | int | float
"""A metadata value. Integers lie within ±2^53 and floats are finite, so that JSON carries them exactly."""

Vector = bytes
"""Little-endian float32 components, 4 bytes each."""


def pack_vector(components: Sequence[float]) -> Vector:
    """Pack numbers into a vector."""
    return struct.pack(f"<{len(components)}f", *components)


def unpack_vector(vector: Vector) -> tuple[float, ...]:
    """Unpack a vector into its components. Raises struct.error unless it is a multiple of 4 bytes long."""
    return struct.unpack(f"<{len(vector) // 4}f", vector)


class Lane(StrEnum):
    """A worker fills its room from the interactive lane first; the batch lane gets what is left."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class Stop(Wire):
    """One stage still to visit, the variant of it to use, and the parameters that this stage alone reads."""

    stage: Name
    variant: Name = "default"
    params: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def place(self) -> dict[str, str]:
        """The stage and the variant."""
        return {"stage": self.stage, "variant": self.variant}

    def with_params(self, **params: JsonValue) -> Self:
        """A copy in which these parameters replace those of the same name."""
        return self.model_copy(update={"params": {**self.params, **params}})


class Hop(Wire):
    """One visited stage: how long the query waited in its queue and how long the work took. `branch` names the branches
    of ensembles that it was in, the outermost first."""

    stage: str
    variant: str
    worker: str
    waited_ms: float
    worked_ms: float
    branch: str = ""


class PassageCopy(Wire):
    """Where else the text of a passage is, or almost the same text."""

    document_id: str
    document: str
    position: int


class Neighbour(Wire):
    """A passage of the same section, near another one. It may repeat the heading and the end of the one before it."""

    position: int
    text: str


class Passage(Wire):
    """A piece of a document: found by the retriever, or on its way into the index.

    `score` is 0 to 1, and of two questions the same score means the same; it is that of the last stage that ranked
    the passages, and `retrieval_score` that of the retriever, where a later stage has replaced it. `similarity` is the
    cosine of its vector and the question's; `coverage` is the share of the question's terms that it holds, by their
    rarity. `section` numbers the sections of a document from 0. `context` are passages around it, in the order of the
    document without gaps but for the passage itself; in the sources of an answer, those that the answer is made from.
    """

    id: str
    document_id: str
    document: str
    position: int
    text: str
    score: float = 0.0
    retrieval_score: float | None = None
    similarity: float | None = None
    coverage: float | None = None
    copies: tuple[PassageCopy, ...] = ()
    section: int | None = None
    context: tuple[Neighbour, ...] = ()
    metadata: dict[str, Scalar] = Field(default_factory=dict)
    vector: Vector | None = None


class Message(Wire):
    """A turn of a conversation in the shape of the OpenAI chat API; `tool_calls` and the like are kept as they are."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None


class Query(Wire):
    """One unit of work on its way through the stages of its slip.

    `slip[0]` is the stop that the holder of the envelope is to do. `deadline` and `asked_at` are Unix seconds.
    `attempt` is raised when the same query is submitted again; stages never change it. `messages` is the
    conversation that led to the question, oldest turn first. `collection` is the table that is searched, and
    `collection_id` the collection that it belongs to; `collection_version` is the version that is asked, `release` what
    that was released as, and `canary` the job of a canary that this was chosen in. `shares` says of each stage whose
    variant was drawn by weight how likely that variant was, 0 to 1. `results` are those of stages beside retrieval and
    generation. `notes` is for what a stage finds out that has no member of its own: a verdict, a count. `joined` says
    that the reader on `reply` takes several events in one message, a line each. `branch` tells envelopes of one query
    apart that are on their way at once; it is empty where there is one. `metadata` is the caller's own, for the
    conditions of a pipeline. `principals` are what the reader of the
    answer carries; only documents that they permit may be looked at.
    """

    version: int = 1
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    tenant: Tenant = "default"
    lane: Lane = Lane.INTERACTIVE
    asked_at: FiniteFloat
    deadline: FiniteFloat
    reply: Subject
    joined: bool = False
    slip: tuple[Stop, ...]
    attempt: int = 1
    branch: str = ""
    question: str = ""
    messages: tuple[Message, ...] = ()
    metadata: dict[str, Scalar] = Field(default_factory=dict)
    collection: str = ""
    collection_id: str = ""
    collection_version: str = ""
    release: str = ""
    canary: str = ""
    shares: dict[str, float] = Field(default_factory=dict)
    principals: tuple[str, ...] = ()
    embedding: Vector | None = None
    passages: tuple[Passage, ...] = ()
    results: Results | None = None
    notes: dict[str, JsonValue] = Field(default_factory=dict)
    trail: tuple[Hop, ...] = ()

    @property
    def stop(self) -> Stop:
        """The stop to do now. Raises IndexError once the slip is empty."""
        return self.slip[0]

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative once it has passed."""
        return self.deadline - time.time()

    def with_passages(self, passages: Iterable[Passage]) -> Self:
        return self.model_copy(update={"passages": tuple(passages)})

    def with_embedding(self, embedding: Vector) -> Self:
        return self.model_copy(update={"embedding": embedding})

    @property
    def expansion(self) -> Expansion | None:
        """What is searched for beside the question, where a stage has expanded it."""
        return self.results.expansion if self.results else None

    def with_expansion(self, expansion: Expansion) -> Self:
        results = (self.results or Results()).model_copy(update={"expansion": expansion})
        return self.model_copy(update={"results": results})

    def with_search(self, outcome: SearchOutcome) -> Self:
        results = (self.results or Results()).model_copy(update={"search": outcome})
        return self.model_copy(update={"results": results})

    def with_inference(self, outcome: InferenceOutcome) -> Self:
        results = (self.results or Results()).model_copy(update={"inference": outcome})
        return self.model_copy(update={"results": results})

    def with_result(self, result: Literal["index", "response"], value: Wire) -> Self:
        """The result, also as a note of its name, where the version before this one reads it."""
        results = (self.results or Results()).model_copy(update={result: value})
        notes = {**self.notes, result: value.model_dump(mode="json")}
        return self.model_copy(update={"results": results, "notes": notes})

    def advance(self, hop: Hop) -> Self:
        """The envelope after the current stop: one stop less on the slip, one hop more on the trail."""
        return self.model_copy(update={"slip": self.slip[1:], "trail": (*self.trail, hop)})

    def resubmitted(self) -> Self:
        """The same query for another attempt."""
        return self.model_copy(update={"attempt": self.attempt + 1})

    def encode(self) -> bytes:
        return self.__pydantic_serializer__.to_json(self, exclude_defaults=True)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises pydantic.ValidationError for anything that is no envelope."""
        return cls.model_validate_json(data)

    def model_post_init(self, _context: Any, /) -> None:
        if len(self.slip) > 32:
            raise ValueError("a slip has at most 32 stops")
