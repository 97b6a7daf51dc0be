"""From a client's request to the envelope of its query, for every face of the API."""

import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from services.gateway.canaries.selection import choose_version, shadowed_version
from services.gateway.context import RequestContext
from services.gateway.queries.pipelines import DEFAULT, EMBED, GENERATE, RERANK, Pipelines
from services.gateway.settings import GatewaySettings
from services.gateway.variants.selector import Router
from shared.contracts.collections import Collection
from shared.contracts.envelope import Lane, Message, Passage, Query, Scalar, Stop
from shared.contracts.generation import GenerateParams
from shared.contracts.graphs import resolved, rewritten
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import NO_OPTIONS, RetrievalFields
from shared.nats.subjects import reply_subject

__all__ = ["SHORTEST_TIMEOUT", "Countdown", "QueryPlan", "QueryPlanner", "validate_question", "validate_timeout"]

SHORTEST_TIMEOUT: Final = 0.1

NOTHING: Final = 0.1
"""Seconds that do not count: a look-up of a moment."""

DEEPEST: Final = 128
"""Levels of JSON within JSON in what goes to a stage."""

ANY: Final = "default"
"""The variant of a stop that leaves the choice to the collection and the routes."""

NO_METADATA: Final[Mapping[str, Scalar]] = {}

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
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


class QueryPlanner:
    """Writes the envelopes of queries, for every face of the API."""

    def __init__(
        self,
        settings: GatewaySettings,
        pipelines: Pipelines,
        selector: Router,
        shadow: Callable[[str, Callable[[], Query], float], None],
    ) -> None:
        """`shadow` is told the id of a question of which a copy is to be sent, what writes that, and the seconds that
        the question may take."""
        self.settings = settings
        self._pipelines = pipelines
        self._selector = selector
        self._shadow = shadow

    def plan(self, context: RequestContext, plan: QueryPlan) -> Query:
        """The envelope of a question. Raises Problem PIPELINE_NOT_FOUND or INVALID_FILTER.

        A share of the conversations of the interactive lane goes to the version that is a canary, or is copied to it.
        """
        query_id, canary = _new_id(), ""
        if context.lane is not Lane.INTERACTIVE:
            return self._planned(context, plan, query_id, canary)
        key = plan.conversation or query_id
        collection, canary = choose_version(plan.collection, key)
        if (shadowed := shadowed_version(plan.collection, key)) is not None:
            copied = replace(plan, collection=shadowed)
            self._shadow(query_id, lambda: self._planned(context, copied, query_id, canary), plan.timeout)
        return self._planned(context, replace(plan, collection=collection), query_id, canary)

    def _planned(self, context: RequestContext, plan: QueryPlan, query_id: str, canary: str) -> Query:
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
            rewritten(slip, lambda steps: tuple(_with_plan(stop, plan) for stop in steps)),
            timeout=plan.timeout,
            conversation=plan.conversation,
            question=plan.question,
            messages=plan.messages,
            metadata=plan.metadata,
            query_id=query_id,
            collection=plan.collection.table,
            collection_id=plan.collection.id,
            collection_version=plan.collection.queried.name,
            release=plan.collection.queried.release,
            canary=canary,
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
        metadata: Mapping[str, Scalar] = NO_METADATA,
        query_id: str = "",
        collection: str = "",
        collection_id: str = "",
        collection_version: str = "",
        release: str = "",
        canary: str = "",
        passages: tuple[Passage, ...] = (),
    ) -> Query:
        """An envelope with this slip, which this gateway receives the reply to within `timeout` seconds from now.

        The context names the lane, and may name another deadline. A stop that names no variant gets one by the routes,
        the same for all queries of a `conversation`. Raises Problem INVALID_REQUEST for JSON that is nested too deep or
        a pipeline that has no stage for the question, and INVALID_QUESTION where the pipeline refuses it.
        """
        now = time.time()
        query_id = query_id or _new_id()
        for part in (*(stop.params for stop in slip), *(message.model_extra for message in messages)):
            _check_depth(part)
        routed = self._selector.route(slip, conversation or query_id)
        query = Query(
            id=query_id,
            tenant=context.tenant,
            lane=context.lane,
            asked_at=now,
            deadline=min(context.deadline or now + timeout, context.latest or math.inf),
            reply=reply_subject(self.settings.instance, query_id),
            joined=True,
            slip=routed,
            shares=self._selector.shares(slip, routed),
            question=question,
            messages=messages,
            metadata=dict(metadata),
            collection=collection,
            collection_id=collection_id,
            collection_version=collection_version,
            release=release,
            canary=canary,
            principals=context.principal.reads_as,
            passages=passages,
        )
        query = resolved(query)
        if not query.slip:
            detail = (
                "The pipeline has no step for this question: none of its cases holds, and nothing comes after them."
            )
            raise Problem(ProblemType.INVALID_REQUEST, detail)
        return query


def _new_id() -> str:
    """It sorts by time, which makes logs easier to read."""
    return f"{int(time.time() * 1000):011x}{secrets.token_hex(6)}"


def _check_depth(part: object, left: int = DEEPEST) -> None:
    """Raises Problem INVALID_REQUEST for JSON that is nested deeper than workers' parsers accept (200 levels)."""
    if not left:
        detail = f"The request has JSON that is nested deeper than {DEEPEST} levels."
        raise Problem(ProblemType.INVALID_REQUEST, detail)
    if isinstance(part, dict | list):
        for member in part.values() if isinstance(part, dict) else part:
            _check_depth(member, left - 1)


def _with_plan(stop: Stop, plan: QueryPlan) -> Stop:
    version = plan.collection.queried
    if stop.stage == EMBED and stop.variant == ANY:
        # Only the variant and the model that embedded the collection's passages can find them.
        stop = stop.model_copy(update={"variant": plan.collection.embedding_variant})
        return stop.with_params(**version.embed_params)
    if stop.stage == RERANK:
        return stop.model_copy(update={"params": version.rerank_params | stop.params})
    if stop.stage != GENERATE:
        return stop
    stop = stop.model_copy(update={"params": version.generate_params | stop.params})
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
