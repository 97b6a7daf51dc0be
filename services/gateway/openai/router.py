"""The face of OpenAI's API: chat, completions, embeddings and models."""

from typing import Final

from fastapi import Request
from starlette.responses import Response

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import BackendParameter, PrincipalParameter, context_of
from services.gateway.http.body import read_json
from services.gateway.http.openapi import body, event_stream
from services.gateway.openai.chat.formatter import ChatFormatter
from services.gateway.openai.completions.formatter import CompletionFormatter
from services.gateway.openai.embeddings.service import Embedded
from services.gateway.openai.errors import errors
from services.gateway.openai.models.model_registry import EMBED
from services.gateway.openai.models.service import find_model, list_models
from services.gateway.openai.planner import ask_chat, ask_completion, timeout_of
from services.gateway.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from services.gateway.openai.responses import ChatCompletion, Completion, EmbeddingList, ModelBody, ModelList
from services.gateway.queries.planner import address
from services.gateway.queries.responses import JsonAnswer, StreamedAnswer
from shared.contracts.envelope import Passage, Query, Stop
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType

__all__ = ["router"]

router = authenticated_router("openai")

MAX_BODY: Final = 768 * 1024
"""Bytes of a chat; all of it must fit into one message of the broker, with the passages."""

MAX_INPUTS: Final = 32 * 2**20
"""Bytes of a request for embeddings."""

WRITTEN: Final = errors(
    ProblemType.MODEL_NOT_FOUND,
    ProblemType.CONTEXT_EXCEEDED,
    ProblemType.TOO_LARGE,
    ProblemType.QUEUE_FULL,
    ProblemType.STAGE_UNAVAILABLE,
    ProblemType.DEADLINE_EXCEEDED,
    ProblemType.ANSWER_INTERRUPTED,
    ProblemType.ENGINE_FAILED,
    ProblemType.STAGE_FAILED,
)
CHUNKS: Final = event_stream("Chunks as `data` without an event's name, `[DONE]` at the end; or an error instead.")


@router.post(
    "/v1/chat/completions",
    summary="Chat with a model, or with the documents of a collection",
    response_class=Response,
    openapi_extra=body(json=ChatRequest),
    responses={
        200: {"model": ChatCompletion, "description": "The answer, or chunks of it (ChatChunk)", "content": CHUNKS},
        **WRITTEN,
    },
)
@requires(Action.QUERY)
async def chat(request: Request) -> Response:
    """As in OpenAI's API. The model `rag/<collection>` answers from documents and says from which."""
    context = context_of(request)
    backend = await context.backend()
    asked = await read_json(request, ChatRequest, MAX_BODY)
    query, format_context = await ask_chat(context, backend, asked)
    return (StreamedAnswer if asked.stream else JsonAnswer)(backend.queries, query, ChatFormatter(format_context))


@router.post(
    "/v1/completions",
    summary="Let a model go on from a text",
    response_class=Response,
    openapi_extra=body(json=CompletionRequest),
    responses={
        200: {"model": Completion, "description": "The text, or chunks of it", "content": CHUNKS},
        **WRITTEN,
    },
)
@requires(Action.QUERY)
async def complete(request: Request) -> Response:
    """As in OpenAI's API, for one prompt."""
    context = context_of(request)
    backend = await context.backend()
    asked = await read_json(request, CompletionRequest, MAX_BODY)
    query, format_context = await ask_completion(context, backend, asked)
    return (StreamedAnswer if asked.stream else JsonAnswer)(backend.queries, query, CompletionFormatter(format_context))


@router.post(
    "/v1/embeddings",
    summary="Turn texts into vectors",
    response_class=Response,
    openapi_extra=body(json=EmbeddingRequest),
    responses={200: {"model": EmbeddingList, "description": "A vector for each text, in their order"}, **WRITTEN},
)
@requires(Action.QUERY)
async def embed(request: Request) -> Response:
    """Vectors of length 1. Texts are cut at what the model takes."""
    context = context_of(request)
    backend = await context.backend()
    asked = await read_json(request, EmbeddingRequest, MAX_INPUTS)
    timeout = timeout_of(asked.sluice.timeout, context.settings)
    variant = await backend.models.variant(EMBED, asked.model)
    params = {"target": "passages", "kind": "query" if asked.sluice.input_type == "query" else "passage"}
    stop = Stop(stage=EMBED, variant=variant, params=params)

    def plan_query(passages: tuple[Passage, ...]) -> Query:
        return address(context, (stop,), timeout=timeout, passages=passages)

    return Embedded(backend.queries, asked, plan_query)


@router.get("/v1/models", summary="List the models", responses=errors())
@requires(Action.QUERY, Action.READ)
async def models(backend: BackendParameter, principal: PrincipalParameter) -> ModelList:
    """The models of the engines, the models that embed, and `rag/<collection>` for each collection."""
    return ModelList(data=await list_models(backend, principal))


@router.get("/v1/models/{model:path}", summary="Look at a model", responses=errors(ProblemType.MODEL_NOT_FOUND))
@requires(Action.QUERY, Action.READ)
async def model(model: str, backend: BackendParameter, principal: PrincipalParameter) -> ModelBody:
    return await find_model(backend, principal, model)
