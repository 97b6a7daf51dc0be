"""From a client's request to the envelope of its query, for every face of the API."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from services.gateway.context import RequestContext
from services.gateway.queries.pipelines import DEFAULT, EMBED, GENERATE, Pipelines
from services.gateway.settings import GatewaySettings
from services.gateway.variants.selector import Router
from shared.contracts.collections import Collection
from shared.contracts.envelope import Message, Passage, Query, Stop
from shared.contracts.generation import GenerateParams
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import NO_OPTIONS, RetrievalFields
from shared.nats.subjects import reply_subject

__all__ = ["Countdown", "QueryPlan", "QueryPlanner", "validate_question", "validate_timeout"]

SHORTEST_TIMEOUT: Final = 0.1

NOTHING: Final = 0.1
"""Seconds that do not count: a look-up of a moment."""

DEEPEST: Final = 128
"""Levels of JSON within JSON in what goes to a stage."""

ANY: Final = "default"
"""The variant of a stop that leaves the choice to the collection and the routes."""

SPOKEN: Final = frozenset({"user", "assistant"})
"""Roles whose turns a later question may refer to."""

NOT_TEXT: Final = re.compile("[\x00\x7f-\x9f\ufffe\uffff]")

PASTED: Final[dict[str, str | int | None]] = {
    **dict.fromkeys("\x07\x0b\x0c\x1c\x1d\x85\u2028\u2029", " "),
    **dict.fromkeys("\x01\x02\x03\x04\x05\x06\x08\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1f\xad", ""),
    "\x1e": "-",
}
"""What text from PDF files and Office programs holds beside words: ends of lines, pages and cells, a hyphen that does
not break, and marks that nobody sees."""


class Countdown:
    """The seconds that a query may take, less those that have passed since."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """At least the shortest timeout; all of them where next to nothing has passed."""
        left = self._until - time.monotonic()
        return self._seconds if self._seconds - left < NOTHING else max(SHORTEST_TIMEOUT, left)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPlan:
    """A question about a collection, checked. `messages` are the turns before it; `timeout` is in seconds.

    `conversation` is what all questions of one conversation have in common, so that they all go to the same variants;
    without it each question goes its own way. `generate` goes before what the pipeline says about generation, and so
    does `generator`, the variant of the generator. With `rerank` the best `top_k` of `candidates` passages are used;
    None leaves that to the version of the collection.
    """

    question: str
    collection: Collection
    timeout: float
    messages: tuple[Message, ...] = ()
    pipeline: str | None = None
    top_k: int | None = None
    default_top_k: int = 5
    filter: Mapping[str, JsonValue] | None = None
    rerank: bool | None = None
    candidates: int | None = None
    conversation: str | None = None
    retrieval: RetrievalFields = NO_OPTIONS
    generate: GenerateParams = GenerateParams()
    generator: str | None = None


class QueryPlanner:
    """Writes the envelopes of queries, for every face of the API."""

    def __init__(self, settings: GatewaySettings, pipelines: Pipelines, selector: Router) -> None:
        self.settings = settings
        self._pipelines = pipelines
        self._selector = selector

    def plan(self, context: RequestContext, plan: QueryPlan) -> Query:
        """The envelope of a question. Raises Problem PIPELINE_NOT_FOUND or INVALID_FILTER."""
        slip = self._pipelines.slip(
            plan.pipeline or plan.collection.pipeline or DEFAULT,
            top_k=plan.top_k,
            default_top_k=plan.default_top_k,
            request_filter=plan.filter,
            restricted=plan.collection.restricted and not context.principal.sees_all,
            retrieval=plan.retrieval,
            collection_retrieval=plan.collection.retrieval,
            collection_candidates=plan.collection.queried.rerank_candidates,
            condense=any(message.role in SPOKEN for message in plan.messages),
            rerank=plan.rerank,
            candidates=plan.candidates,
        )
        return self.envelope(
            context,
            tuple(_with_plan(stop, plan) for stop in slip),
            timeout=plan.timeout,
            conversation=plan.conversation,
            question=plan.question,
            messages=plan.messages,
            collection=plan.collection.table,
            collection_id=plan.collection.id,
        )

    def envelope(
        self,
        context: RequestContext,
        slip: tuple[Stop, ...],
        *,
        timeout: float,
        conversation: str | None = None,
        question: str = "",
        messages: tuple[Message, ...] = (),
        collection: str = "",
        collection_id: str = "",
        passages: tuple[Passage, ...] = (),
    ) -> Query:
        """An envelope with this slip, which this gateway receives the reply to within `timeout` seconds from now.

        The context names the lane, and may name another deadline. A stop that names no variant gets one by the routes,
        the same for all queries of a `conversation`. Raises Problem INVALID_REQUEST for JSON that is nested too deep.
        """
        now = time.time()
        # Sorts by time, which makes logs easier to read.
        query_id = f"{int(now * 1000):011x}{secrets.token_hex(6)}"
        for part in (*(stop.params for stop in slip), *(message.model_extra for message in messages)):
            _check_depth(part)
        return Query(
            id=query_id,
            tenant=context.tenant,
            lane=context.lane,
            asked_at=now,
            deadline=context.deadline or now + timeout,
            reply=reply_subject(self.settings.instance, query_id),
            joined=True,
            slip=self._selector.route(slip, conversation or query_id),
            question=question,
            messages=messages,
            collection=collection,
            collection_id=collection_id,
            principals=context.principal.reads_as,
            passages=passages,
        )


def _check_depth(part: object, left: int = DEEPEST) -> None:
    """Raises Problem INVALID_REQUEST for JSON that is nested deeper than workers' parsers accept (200 levels)."""
    if not left:
        detail = f"The request has JSON that is nested deeper than {DEEPEST} levels."
        raise Problem(ProblemType.INVALID_REQUEST, detail)
    if isinstance(part, dict | list):
        for member in part.values() if isinstance(part, dict) else part:
            _check_depth(member, left - 1)


def _with_plan(stop: Stop, plan: QueryPlan) -> Stop:
    if stop.stage == EMBED and stop.variant == ANY:
        # Only the variant that embedded the collection's passages can find them.
        return stop.model_copy(update={"variant": plan.collection.embedding_variant})
    if stop.stage != GENERATE:
        return stop
    stop = stop.with_params(**plan.generate.encode())
    return stop.model_copy(update={"variant": plan.generator}) if plan.generator else stop


def validate_question(question: str, settings: GatewaySettings) -> str:
    """The question without blanks around it and what is PASTED with it. Raises Problem INVALID_QUESTION."""
    question = question.translate(str.maketrans(PASTED)).strip()
    if not question:
        reason = "is empty"
    elif len(question) > settings.max_question_chars:
        reason = f"has {len(question):,} characters; at most {settings.max_question_chars:,} are allowed"
    elif NOT_TEXT.search(question) or question.count("\ufffd") * 10 > len(question):
        reason = "holds control characters or broken encoding; send plain text"
    else:
        return question
    raise Problem(ProblemType.INVALID_QUESTION, f"The question {reason}.")


def validate_timeout(timeout: float | None, settings: GatewaySettings) -> float:
    """Seconds that a query may take. Raises Problem INVALID_REQUEST."""
    if timeout is None:
        return settings.default_timeout
    longest = settings.longest_deadline
    if not SHORTEST_TIMEOUT <= timeout <= longest:
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"timeout must be {SHORTEST_TIMEOUT:g} to {longest:g} seconds, not {timeout:g}.",
        )
    return timeout
