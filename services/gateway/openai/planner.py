"""From requests in OpenAI's form to queries: the collection, the model and the question."""

import re
from collections.abc import Callable
from typing import Final

from starlette.requests import Request

from services.gateway.collections.cache import CollectionCache
from services.gateway.context import RequestContext, context_of
from services.gateway.http.problems import invalid_member
from services.gateway.openai.chat.messages import conversation_key
from services.gateway.openai.formatter import FormatContext
from services.gateway.openai.models.model_registry import EMBED, GENERATE, ModelRegistry
from services.gateway.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest, SluiceOptions
from services.gateway.queries.planner import Countdown, QueryPlan, QueryPlanner, validate_question, validate_timeout
from services.gateway.queries.session import Queries
from services.gateway.settings import GatewaySettings
from services.gateway.state import state_of
from shared.contracts.collections import Collection
from shared.contracts.envelope import Passage, Query, Stop
from shared.contracts.filters import parse
from shared.contracts.generation import GenerateParams, Mode
from shared.contracts.models import EMBEDS, MODEL_NAME, RERANKS
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import NO_OPTIONS
from shared.stores.models import ModelStore

__all__ = ["RAG", "OpenAIPlanner", "model_stop", "openai_planner", "timeout_of"]

RAG: Final = "rag"
"""The model that is the collection `default`; `rag/<collection>` is any other."""

DEFAULT_COLLECTION: Final = "default"


class OpenAIPlanner:
    """Plans the queries of one request. Methods raise the Problem that the request has."""

    def __init__(
        self,
        planner: QueryPlanner,
        collections: CollectionCache,
        models: ModelRegistry,
        stored: ModelStore,
        context: RequestContext,
    ) -> None:
        self._planner = planner
        self._settings = planner.settings
        self._collections = collections
        self._models = models
        self._stored = stored
        self._context = context

    async def plan_chat(self, body: ChatRequest) -> tuple[Query, FormatContext]:
        named = _named_collection(body.model)
        if named is not None or body.sluice.retrieves:
            countdown = Countdown(timeout_of(body.sluice.timeout, self._settings))
            collection = await self._collection(named, body.sluice, countdown.left)
            query = await self._plan_rag(body, collection, countdown)
            return query, _format_context(body, body.logprobs, collection.name)
        params = body.generate_params(Mode.CHAT)
        timeout = timeout_of(body.sluice.timeout, self._settings)
        query = self._planner.envelope(
            self._context,
            (await self._generate(body.model, params),),
            timeout=timeout,
            conversation=_conversation(body),
            messages=tuple(message.message() for message in body.messages),
        )
        return query, _format_context(body, body.logprobs)

    async def plan_completion(self, body: CompletionRequest) -> tuple[Query, FormatContext]:
        if _named_collection(body.model) is not None or body.sluice.retrieves:
            raise invalid_member("model", "documents are asked with /v1/chat/completions")
        params = body.generate_params()
        timeout = timeout_of(body.sluice.timeout, self._settings)
        query = self._planner.envelope(
            self._context,
            (await self._generate(body.model, params),),
            timeout=timeout,
            conversation=body.sluice.conversation or body.prompt_cache_key,
            question=body.prompt,
        )
        return query, _format_context(body, body.logprobs is not None)

    async def plan_embeddings(self, body: EmbeddingRequest) -> Callable[[tuple[Passage, ...]], Query]:
        """A function that writes the envelope for some of the texts."""
        timeout = timeout_of(body.sluice.timeout, self._settings)
        kind = "query" if body.sluice.input_type == "query" else "passage"
        stop = await model_stop(EMBED, body.model, self._context.tenant, self._models, self._stored)
        stop = stop.with_params(target="passages", kind=kind)
        return lambda passages: self._planner.envelope(self._context, (stop,), timeout=timeout, passages=passages)

    async def _generate(self, model: str, params: GenerateParams) -> Stop:
        return Stop(stage=GENERATE, variant=await self._models.variant(GENERATE, model), params=params.encode())

    async def _plan_rag(self, body: ChatRequest, collection: Collection, countdown: Countdown) -> Query:
        """The last message is the question. Those before it are its context."""
        *earlier, last = body.messages
        if last.role != "user":
            raise invalid_member("messages", "the last one must be the user's question where documents are asked")
        if body.tools:
            raise invalid_member("tools", "are for a model by its own name, not for answers from documents")
        options = body.sluice
        if options.filter:
            parse(options.filter)
        own_name = _named_collection(body.model) is None
        return self._planner.plan(
            self._context,
            QueryPlan(
                question=validate_question(last.content or "", self._settings),
                collection=collection,
                timeout=countdown.left,
                messages=tuple(message.message() for message in earlier),
                pipeline=options.pipeline,
                top_k=options.top_k,
                filter=options.filter,
                retrieval=options.retrieval or NO_OPTIONS,
                rerank=options.rerank,
                conversation=_conversation(body),
                generate=body.generate_params(Mode.ANSWER),
                generator=await self._models.variant(GENERATE, body.model) if own_name else None,
            ),
        )

    async def _collection(self, named: str | None, options: SluiceOptions, patience: float) -> Collection:
        principal = self._context.principal
        if named is None:
            chosen = principal.need_collection(options.collection or DEFAULT_COLLECTION)
            return await self._collections.get(principal.tenant, chosen, patience=patience)
        if options.collection not in (None, named):
            raise invalid_member("sluice.collection", f"the model names another collection, {named[:80]!r}")
        principal.need_collection(named)
        try:
            return await self._collections.get(principal.tenant, named, patience=patience)
        except Problem as problem:
            if problem.kind is not ProblemType.COLLECTION_NOT_FOUND:
                raise
            raise Problem(ProblemType.MODEL_NOT_FOUND, problem.detail, param="model") from None


async def openai_planner(request: Request) -> tuple[OpenAIPlanner, Queries]:
    """The planner of a request and what submits its queries. Raises Problem BROKER_UNAVAILABLE."""
    state = state_of(request)
    backend = await state.backend(hold=False)
    planner = OpenAIPlanner(state.planner, backend.cache, backend.models, backend.model_store, context_of(request))
    return planner, backend.queries


async def model_stop(stage: str, model: str, tenant: str, models: ModelRegistry, stored: ModelStore) -> Stop:
    """The stop of a stage that a model by its name does: one that a worker runs, or one of the tenant's in the store.

    Raises Problem MODEL_NOT_FOUND, INVALID_REQUEST for one of another kind, STAGE_UNAVAILABLE, nats errors.
    """
    if re.fullmatch(MODEL_NAME, model):
        await stored.require(tenant, model, *(EMBEDS if stage == EMBED else RERANKS))
        return Stop(stage=stage, params={"model": model})
    return Stop(stage=stage, variant=await models.variant(stage, model))


def timeout_of(timeout: float | None, settings: GatewaySettings) -> float:
    """Seconds that a request may take. Raises Problem INVALID_REQUEST."""
    if timeout is None:
        return min(settings.openai_timeout, settings.longest_deadline)
    return validate_timeout(timeout, settings)


def _named_collection(model: str) -> str | None:
    """The collection that a model's name means, None for the name of an engine's model."""
    if model == RAG:
        return DEFAULT_COLLECTION
    prefix, slash, collection = model.partition("/")
    return collection if prefix == RAG and slash else None


def _conversation(body: ChatRequest) -> str:
    return body.sluice.conversation or body.prompt_cache_key or conversation_key(body.messages)


def _format_context(
    body: ChatRequest | CompletionRequest, logprobs: bool, collection: str | None = None
) -> FormatContext:
    return FormatContext(
        model=body.model,
        collection=collection,
        logprobs=logprobs,
        include_usage=body.stream and body.stream_options.include_usage,
    )
