"""Answers to queries of the HTTP API, whole and as the events of a stream, as typed, immutable models."""

from pydantic import Field

from sluice.api.base import Metadata, Schema, Sent

__all__ = [
    "Answer",
    "ContextReport",
    "Delta",
    "Done",
    "Event",
    "Searched",
    "SentenceSupport",
    "Source",
    "SourceCopy",
    "SourceNeighbour",
    "Sources",
    "StageTiming",
    "Timings",
    "Usage",
]


class SourceCopy(Schema):
    """Another place of a passage's text."""

    document: str
    document_id: str = ""
    position: int = 0


class SourceNeighbour(Schema):
    """A passage around a source. It may repeat the heading and the end of the passage before it."""

    position: int
    text: str


class Source(Schema):
    """A passage that the answer rests on; `index` is the number that citations in the answer use (from 1).

    `score` is 0 to 1 and can be compared between questions; where reranking has replaced it, `retrieval_score` is what
    the search gave. `similarity` is the cosine to the question, and `coverage` the share of the question's terms that
    the passage holds, by their rarity. `copies` says where else its text is. `context` are passages around it, of the
    same section, that the answer is made from too.
    """

    index: int
    document: str
    document_id: str = ""
    position: int = 0
    text: str
    score: float = 0.0
    retrieval_score: float | None = None
    similarity: float | None = None
    coverage: float | None = None
    copies: tuple[SourceCopy, ...] = ()
    context: tuple[SourceNeighbour, ...] = ()
    metadata: Metadata = Field(default_factory=dict)


class Usage(Schema):
    """Tokens as the engine counts them; `cached_tokens` of the prompt were in its cache already."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class ContextReport(Schema):
    """What of the sources fitted into the model's context window; sources are named by their `index`.

    `dropped` did not fit; of the `shortened` ones only their first sentences did; the `joined` ones are shown with the
    text around them; `dropped_turns` counts the oldest turns of the conversation that were left out. `window` and
    `prompt_tokens` are in tokens; a window of 0 is none.
    """

    window: int = 0
    prompt_tokens: int = 0
    dropped: tuple[int, ...] = ()
    shortened: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    dropped_turns: int = 0


class StageTiming(Schema):
    """How long the query waited for a stage and was worked on there, in milliseconds. `branch` names the parallel
    branches of the pipeline that the stage is in, the outermost first."""

    stage: str
    variant: str = "default"
    worker: str = ""
    waited_ms: float = 0.0
    worked_ms: float = 0.0
    branch: str = ""


class Timings(Schema):
    total_ms: float = 0.0
    first_delta_ms: float | None = None
    stages: tuple[StageTiming, ...] = ()


class SentenceSupport(Schema):
    """Whether the sources support a sentence of the answer: the cited ones, or all where it cites none.

    `start` and `end` bound it in the answer, like a slice; they are equal where it was left out. `score` is 0 to 1.
    `sources` are those that support it, by their `index`.
    """

    sentence: str
    start: int = 0
    end: int = 0
    supported: bool = True
    score: float = 1.0
    sources: tuple[int, ...] = ()


class Searched(Schema):
    """What was searched for. `paraphrases` and `passage` are what the engine wrote where the pipeline expands."""

    question: str = ""
    paraphrases: tuple[str, ...] = ()
    passage: str = ""


class Done(Schema):
    """The end of a streamed answer. `cited` are the indexes of the sources that its citations name.

    `supported` judges each sentence, by `supported_by`: its `words`, also its `meaning`, or that it `quotes`.
    `collection_version` is the version of the collection that was searched, "" where none was.
    `confidence` is the probability, 0 to 1, that the best source answers the question, and `answerable` is False where
    none seems to; both are None where nobody can tell. `searched` is None where that was the question as it was asked.
    `embedding_model` and `rerank_model` are the models of the store that embedded the question and reranked; "" for
    those of the services' own. `release` is what the version was released as, "" where it was not.
    """

    id: str = ""
    usage: Usage = Usage()
    timings: Timings = Timings()
    engine: str = ""
    model: str = ""
    finish: str = "stop"
    cited: tuple[int, ...] = ()
    supported: tuple[SentenceSupport, ...] = ()
    supported_by: str = ""
    confidence: float | None = None
    answerable: bool | None = None
    searched: Searched | None = None
    context: ContextReport = ContextReport()
    collection_version: str = ""
    embedding_model: str = ""
    rerank_model: str = ""
    release: str = ""
    trace_id: Sent[str] = None


class Answer(Done):
    answer: str
    sources: tuple[Source, ...] = ()


class Sources(Schema):
    """What the answer will rest on; comes before the first delta."""

    id: str = ""
    sources: tuple[Source, ...] = ()


class Delta(Schema):
    """The next piece of the answer's text."""

    text: str


Event = Sources | Delta | Done
