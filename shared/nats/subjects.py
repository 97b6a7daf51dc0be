"""What everything on the broker is called: streams, buckets, queues; and who makes which of it."""

from dataclasses import dataclass
from typing import Final

from shared.contracts.envelope import Lane, Query

__all__ = [
    "ANSWERS",
    "ARTIFACTS",
    "BATCHES",
    "BUCKETS",
    "BUILT_IN_QUEUES",
    "CACHE",
    "CANARIES",
    "CHECKPOINTS",
    "COLLECTIONS",
    "CONVERSATIONS",
    "DEAD_LETTERS",
    "DOCUMENTS",
    "DUE",
    "EVERYTHING",
    "FEEDBACK",
    "FILES",
    "JOBS",
    "JOB_EVENTS",
    "JOB_SPECS",
    "JOB_STATUS",
    "JOINS",
    "KEYS",
    "LASTING",
    "MODELS",
    "RELEASES",
    "MODEL_FILES",
    "ORIGINALS",
    "PASSING",
    "PAYLOADS",
    "QUERIES",
    "ROUTES",
    "SCHEDULES",
    "STEP_CACHE",
    "STORES",
    "STREAMS",
    "TENSORS",
    "TIMERS",
    "TRAINING",
    "UPLOADS",
    "USAGE",
    "VECTORS",
    "VOLATILE",
    "StreamOwnership",
    "StageQueue",
    "bucket_stream",
    "cancel_subject",
    "delivered_subject",
    "payload_subject",
    "query_subject",
    "reply_subject",
    "store_stream",
]

QUERIES = "QUERIES"
JOBS = "JOBS"
JOB_EVENTS = "JOB_EVENTS"
DEAD_LETTERS = "DEAD_LETTERS"
TIMERS = "TIMERS"
CACHE = "CACHE"
PAYLOADS = "PAYLOADS"

JOB_STATUS = "jobs"
JOB_SPECS = "job-specs"
COLLECTIONS = "collections"
DOCUMENTS = "documents"
ROUTES = "routes"
KEYS = "keys"
SCHEDULES = "schedules"
STEP_CACHE = "step-cache"
CHECKPOINTS = "checkpoints"
FILES = "files"
BATCHES = "batches"
CANARIES = "canaries"
CONVERSATIONS = "conversations"
USAGE = "usage"
ANSWERS = "answers"
FEEDBACK = "feedback"
MODELS = "models"
RELEASES = "releases"
JOINS = "joins"

UPLOADS = "uploads"
VECTORS = "vectors"
ORIGINALS = "originals"
ARTIFACTS = "artifacts"
TENSORS = "tensors"
MODEL_FILES = "models"
TRAINING = "training"

STREAMS: Final = (QUERIES, JOBS, JOB_EVENTS, DEAD_LETTERS, TIMERS, PAYLOADS, CACHE)
PASSING: Final = (JOB_STATUS, JOB_SPECS, CHECKPOINTS, STEP_CACHE, FILES, BATCHES, CANARIES)
"""Buckets whose entries go with the history of jobs."""

LASTING: Final = (COLLECTIONS, DOCUMENTS, ROUTES, KEYS, SCHEDULES, MODELS, RELEASES)
BUCKETS: Final = (*PASSING, *LASTING, CONVERSATIONS, USAGE, ANSWERS, FEEDBACK)
STORES: Final = (UPLOADS, VECTORS, ORIGINALS, ARTIFACTS, MODEL_FILES, TRAINING, TENSORS)

DUE = "due"
"""The consumer of what the timers have made due."""


def query_subject(query: Query) -> str:
    """Where a query goes to reach the stop at the head of its slip."""
    stop = query.stop
    return f"query.{stop.stage}.{stop.variant}.{query.lane}.{query.tenant}"


def reply_subject(asker: str, query_id: str) -> str:
    return f"reply.{asker}.{query_id}"


def delivered_subject(reply: str) -> str:
    """Where to ask how much of an answer its reader has been given; `reply` is the query's reply subject."""
    return f"{reply}.delivered"


def payload_subject(tenant: str, model: str, kind: str) -> str:
    """Where a payload of a model is logged; `*` is any model or kind. A dot in the model's name is `%2E`."""
    return f"payload.{tenant}.{model.replace('.', '%2E')}.{kind}"


def cancel_subject(query_id: str) -> str:
    return f"control.cancel.{query_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageQueue:
    """One stage variant's queue in one lane. `exclusive`: at most one message is in work, over all replicas."""

    stage: str
    variant: str
    lane: Lane
    exclusive: bool = False

    @property
    def consumer(self) -> str:
        return f"{self.stage}_{self.variant}_{self.lane}"

    @property
    def filter(self) -> str:
        return f"query.{self.stage}.{self.variant}.{self.lane}.*"


BUILT_IN_QUEUES: Final = (
    *(
        StageQueue(stage=stage, variant="default", lane=lane)
        for stage in ("condense", "expand", "embed", "retrieve", "rerank", "generate", "predict")
        for lane in Lane
    ),
    StageQueue(stage="index", variant="default", lane=Lane.BATCH, exclusive=True),
)
"""The queues of the stages that Sluice comes with. Gateways make them too: an autoscaler reads their length before any
worker of the stage has ever run, or after a broker has lost its memory while there was none."""


def bucket_stream(bucket: str) -> str:
    """The stream behind a key-value bucket."""
    return f"KV_{bucket}"


def store_stream(store: str) -> str:
    """The stream behind an object store."""
    return f"OBJ_{store}"


EVERYTHING: Final = frozenset({*STREAMS, *map(bucket_stream, (*BUCKETS, JOINS)), *map(store_stream, STORES)})
"""Every stream of the topology."""

VOLATILE: Final = frozenset({QUERIES, CACHE, bucket_stream(JOINS)})
"""The streams that live in the broker's memory, and go with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOwnership:
    """A process's part in making the topology, as names of streams: what it makes, and what it needs from others."""

    makes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
