"""What the formatters of chat and completions share."""

import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from services.gateway.http.models import sources_from
from services.gateway.http.sse import Event
from services.gateway.openai.responses import AnsweredBy
from services.gateway.queries.assembler import Ended
from services.gateway.queries.formatter import timings_of
from services.gateway.queries.session import QuerySession
from shared.contracts.envelope import Passage
from shared.telemetry.tracing import trace_id

__all__ = ["END", "FormatContext", "answer_details", "fingerprint"]

END = Event(b"[DONE]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatContext:
    """What the request says about the form of its answer. `model` is the name in the request.

    `collection` is the source of the answer, None for an answer of a model alone.
    """

    model: str
    collection: str | None = None
    logprobs: bool = False
    include_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))


def fingerprint(ended: Ended) -> str:
    """The same for answers that the same engine wrote with the same model."""
    return "fp_" + sha256(f"{ended.engine}/{ended.model}".encode()).hexdigest()[:10]


def answer_details(
    format_context: FormatContext, session: QuerySession, ended: Ended, sources: tuple[Passage, ...] | None
) -> AnsweredBy:
    """The member `sluice` of the end of an answer; with `sources` that of a whole one."""
    documents: dict[str, Any] = {}
    if format_context.collection is not None:
        supported = [sentence.model_dump() for sentence in ended.supported]
        documents = {
            "cited": ended.cited,
            "supported": supported,
            "supported_by": ended.supported_by,
            "confidence": ended.confidence,
            "answerable": ended.answerable,
            "searched": ended.searched,
        }
    shown = {} if format_context.collection is None or sources is None else {"sources": sources_from(sources)}
    return AnsweredBy.model_validate(
        {
            **shown,
            **documents,
            "context": ended.context.model_dump(),
            "timings": timings_of(session, ended),
            "engine": ended.engine,
            "model": ended.model,
            "trace_id": trace_id(),
        }
    )
