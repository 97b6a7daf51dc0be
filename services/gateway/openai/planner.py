"""From requests in OpenAI's form to queries: which collection and which model are meant, and what is the question."""

from typing import Final

from services.gateway.auth.principal import Principal
from services.gateway.context import Backend, RequestContext
from services.gateway.http.problems import invalid_member
from services.gateway.openai.chat.messages import conversation_of
from services.gateway.openai.formatter import FormatContext
from services.gateway.openai.models.model_registry import GENERATE
from services.gateway.openai.requests import ChatRequest, CompletionRequest, SluiceOptions
from services.gateway.queries.planner import QueryPlan, address, plan_query, validate_question, validate_timeout
from services.gateway.settings import GatewaySettings
from shared.contracts.collections import Collection
from shared.contracts.envelope import Query, Stop
from shared.contracts.filters import parse
from shared.contracts.generation import Mode
from shared.contracts.problems import Problem, ProblemType

__all__ = ["RAG", "ask_chat", "ask_completion", "timeout_of"]

RAG: Final = "rag"
"""The model that is the collection `default`; `rag/<collection>` is any other."""

DEFAULT_COLLECTION: Final = "default"


async def ask_chat(context: RequestContext, backend: Backend, asked: ChatRequest) -> tuple[Query, FormatContext]:
    """Raises the Problem that the request has."""
    named = _named_collection(asked.model)
    if named is not None or asked.sluice.retrieves:
        collection = await _collection(backend, context.terms.principal, named, asked.sluice)
        return await _ask_documents(context, backend, asked, collection), _format_context(
            asked, asked.logprobs, collection.name
        )
    params = asked.generate_params(Mode.CHAT)
    timeout = timeout_of(asked.sluice.timeout, context.settings)
    variant = await backend.models.variant(GENERATE, asked.model)
    query = address(
        context,
        (Stop(stage=GENERATE, variant=variant, params=params.encode()),),
        timeout=timeout,
        conversation=_conversation(asked),
        messages=tuple(message.message() for message in asked.messages),
    )
    return query, _format_context(asked, asked.logprobs)


async def ask_completion(
    context: RequestContext, backend: Backend, asked: CompletionRequest
) -> tuple[Query, FormatContext]:
    """Raises the Problem that the request has."""
    if _named_collection(asked.model) is not None or asked.sluice.retrieves:
        raise invalid_member("model", "documents are asked with /v1/chat/completions")
    params = asked.generate_params()
    timeout = timeout_of(asked.sluice.timeout, context.settings)
    variant = await backend.models.variant(GENERATE, asked.model)
    query = address(
        context,
        (Stop(stage=GENERATE, variant=variant, params=params.encode()),),
        timeout=timeout,
        conversation=asked.sluice.conversation or asked.prompt_cache_key,
        question=asked.prompt,
    )
    return query, _format_context(asked, asked.logprobs is not None)


def timeout_of(asked: float | None, settings: GatewaySettings) -> float:
    """Seconds that a request may take. Raises Problem INVALID_REQUEST."""
    if asked is None:
        return min(settings.openai_timeout, settings.longest_deadline)
    return validate_timeout(asked, settings)


async def _ask_documents(
    context: RequestContext, backend: Backend, asked: ChatRequest, collection: Collection
) -> Query:
    """The last message is the question; those before it are what it may refer to."""
    *earlier, last = asked.messages
    if last.role != "user":
        raise invalid_member("messages", "the last one must be the user's question where documents are asked")
    if asked.tools:
        raise invalid_member("tools", "are for a model by its own name, not for answers from documents")
    options = asked.sluice
    if options.filter:
        parse(options.filter)
    own_name = _named_collection(asked.model) is None
    return plan_query(
        context,
        QueryPlan(
            question=validate_question(last.content or "", context.settings),
            collection=collection,
            timeout=timeout_of(options.timeout, context.settings),
            messages=tuple(message.message() for message in earlier),
            pipeline=options.pipeline,
            top_k=options.top_k,
            filter=options.filter,
            conversation=_conversation(asked),
            generate=asked.generate_params(Mode.ANSWER),
            generator=await backend.models.variant(GENERATE, asked.model) if own_name else None,
        ),
    )


async def _collection(backend: Backend, principal: Principal, named: str | None, options: SluiceOptions) -> Collection:
    if named is None:
        chosen = principal.need_collection(options.collection or DEFAULT_COLLECTION)
        return await backend.cache.get(principal.tenant, chosen)
    if options.collection not in (None, named):
        raise invalid_member("sluice.collection", f"the model names another collection, {named[:80]!r}")
    principal.need_collection(named)
    try:
        return await backend.cache.get(principal.tenant, named)
    except Problem as problem:
        if problem.kind is not ProblemType.COLLECTION_NOT_FOUND:
            raise
        raise Problem(ProblemType.MODEL_NOT_FOUND, problem.detail, param="model") from None


def _named_collection(model: str) -> str | None:
    """The collection that a model's name means, None for the name of an engine's model."""
    if model == RAG:
        return DEFAULT_COLLECTION
    prefix, slash, collection = model.partition("/")
    return collection if prefix == RAG and slash else None


def _conversation(asked: ChatRequest) -> str:
    return asked.sluice.conversation or asked.prompt_cache_key or conversation_of(asked.messages)


def _format_context(
    asked: ChatRequest | CompletionRequest, logprobs: bool, collection: str | None = None
) -> FormatContext:
    return FormatContext(
        model=asked.model,
        collection=collection,
        logprobs=logprobs,
        include_usage=asked.stream and asked.stream_options.include_usage,
    )
