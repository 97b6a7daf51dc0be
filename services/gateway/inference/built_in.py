"""Sluice's own models in the form of the protocol: `embed`, `rerank` and `generate`, a version for each variant."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from starlette.requests import Request

from services.gateway.context import charge_tokens, context_of
from services.gateway.http.problems import invalid_request
from services.gateway.http.sse import PING_SECONDS, client_disconnect
from services.gateway.openai.models.model_registry import EMBED, GENERATE, RERANK, ModelRegistry
from services.gateway.openai.planner import timeout_of
from services.gateway.openai.requests import CompletionRequest
from services.gateway.queries.assembler import NewText
from services.gateway.queries.portions import ask_portions, portions
from services.gateway.rerank.service import rank
from services.gateway.state import state_of
from shared.contracts.envelope import Passage, Query, Stop, pack_vector
from shared.contracts.events import Usage
from shared.contracts.inference import BUILT_IN_MODELS
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import (
    Datatype,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelState,
    Tensor,
    TensorSpec,
    pack_bytes,
    unpack_bytes,
)

__all__ = ["BuiltIn", "find_built_in", "list_built_ins"]

PORTION_TEXTS: Final = 32
"""Texts of one query, as for /v1/embeddings."""

MOST_TEXTS: Final = 2048

Emit = Callable[[tuple[Tensor, ...]], Awaitable[None]]

Infer = Callable[["BuiltIn", Request, InferRequest, float | None, str], Awaitable[tuple[Tensor, ...]]]
"""Gets the request, the seconds that it may take, and the id of its query, where it is one query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """A stage as a model. `variants` are those that run, each with its model's name."""

    metadata: ModelMetadata
    variant: str
    variants: Mapping[str, str]
    run: Infer

    @property
    def stage(self) -> str:
        return self.metadata.name

    @property
    def model(self) -> str:
        """What the variant runs."""
        return self.variants.get(self.variant, "")

    async def infer(self, request: Request, body: InferRequest, timeout: float | None, query_id: str) -> InferResponse:
        """Raises Problem INVALID_REQUEST, and those of the stage."""
        self._check_inputs(body)
        outputs = await self.run(self, request, body, timeout, query_id)
        wanted = {output.name for output in body.outputs} or {output.name for output in outputs}
        if unknown := wanted - {output.name for output in outputs}:
            detail = f"The model '{self.stage}' has no output {min(unknown)[:80]!r}."
            raise Problem(ProblemType.INVALID_REQUEST, detail)
        chosen = tuple(output for output in outputs if output.name in wanted)
        return InferResponse(model=self.stage, version=self.variant, id=body.id, outputs=chosen)

    @property
    def streams(self) -> bool:
        return self.stage == GENERATE

    async def stream(
        self,
        request: Request,
        body: InferRequest,
        timeout: float | None,
        emit: Callable[[InferResponse], Awaitable[None]],
        query_id: str,
    ) -> InferResponse:
        """Emit the text of `generate` piece by piece, and return the whole. Raises Problem as `infer` does."""
        self._check_inputs(body)

        def response(outputs: tuple[Tensor, ...]) -> InferResponse:
            return InferResponse(model=self.stage, version=self.variant, id=body.id, outputs=outputs)

        async def emit_piece(outputs: tuple[Tensor, ...]) -> None:
            await emit(response(outputs))

        return response(_text_output(await _generate_text(self, request, body, timeout, query_id, emit_piece)))

    def _check_inputs(self, body: InferRequest) -> None:
        names = [spec.name for spec in self.metadata.inputs]
        if sorted(each.name for each in body.inputs) != sorted(names):
            detail = f"The model '{self.stage}' takes {' and '.join(names)}, each once."
            raise Problem(ProblemType.INVALID_REQUEST, detail)

    def stop(self, **params: Any) -> Stop:
        return Stop(stage=self.stage, variant=self.variant, params=params)


async def find_built_in(models: ModelRegistry, name: str, version: str) -> BuiltIn | None:
    """None for any other name. Raises Problem MODEL_NOT_FOUND where no worker runs it."""
    if name not in BUILT_IN_MODELS:
        return None
    variants = await _variants(models, name)
    variant = version or ("default" if "default" in variants else next(iter(variants), ""))
    if variant not in variants:
        there = f"Its versions are {', '.join(variants)}." if variants else "No worker that has such a model answers."
        named = f"no version {version[:80]!r} of the model '{name}'" if version else f"no model '{name}' now"
        raise Problem(ProblemType.MODEL_NOT_FOUND, f"There is {named}. {there}")
    inputs, outputs, run = MODELS[name]
    metadata = ModelMetadata(name=name, versions=tuple(variants), platform="sluice", inputs=inputs, outputs=outputs)
    return BuiltIn(metadata=metadata, variant=variant, variants=variants, run=run)


async def list_built_ins(models: ModelRegistry) -> list[ModelState]:
    return [
        ModelState(name=name, version=variant, loaded=True)
        for name in BUILT_IN_MODELS
        for variant in await _variants(models, name)
    ]


async def _variants(models: ModelRegistry, stage: str) -> Mapping[str, str]:
    return {model.variant: model.name for model in sorted(await models.all(), key=_by_variant) if model.stage == stage}


def _by_variant(model: Any) -> str:
    return str(model.variant)


async def _embed(
    model: BuiltIn, request: Request, body: InferRequest, timeout: float | None, _: str
) -> tuple[Tensor, ...]:
    """A row of numbers for each text; the parameter `input_type` says `query` for texts that are searched for."""
    (given,) = body.inputs
    kind = body.parameters.get("input_type", "document")
    if kind not in ("query", "document"):
        raise Problem(ProblemType.INVALID_REQUEST, "The parameter `input_type` is query or document.")
    texts = _texts(given)
    state, context = state_of(request), context_of(request)
    stop = model.stop(target="passages", kind="query" if kind == "query" else "passage")
    seconds = timeout_of(timeout, state.settings)
    backend = await state.backend(hold=False)

    def plan(passages: tuple[Passage, ...]) -> Query:
        return state.planner.envelope(context, (stop,), timeout=seconds, passages=passages)

    asked = portions(texts, member="inputs[0].data", most=PORTION_TEXTS)
    parts = await ask_portions(request, backend.queries, asked, plan)
    vectors = [passage.vector for part in parts for passage in part.passages if passage.vector is not None]
    if len(vectors) != len(texts):
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'embed' did not return a vector for each text.")
    tokens = sum(count for part in parts if isinstance(count := part.ended.notes.get("embed_tokens"), int))
    charge_tokens(request.scope, model.model, Usage(prompt_tokens=tokens))
    shape = (len(vectors), len(vectors[0]) // Datatype.FP32.size)
    return (Tensor(name="embedding", datatype=Datatype.FP32, shape=shape, data=b"".join(vectors)),)


async def _rerank(
    model: BuiltIn, request: Request, body: InferRequest, timeout: float | None, _: str
) -> tuple[Tensor, ...]:
    """A score from 0 to 1 for each document, in their order."""
    inputs = {each.name: each for each in body.inputs}
    query = _only_text(inputs["query"])
    documents = _texts(inputs["documents"])
    ranking = await rank(request, query, documents, model=model.model, timeout=timeout)
    scores = [one.score for one in sorted(ranking.ranked, key=lambda one: one.index)]
    return (Tensor(name="scores", datatype=Datatype.FP32, shape=(len(scores),), data=pack_vector(scores)),)


async def _generate(
    model: BuiltIn, request: Request, body: InferRequest, timeout: float | None, query_id: str
) -> tuple[Tensor, ...]:
    """The text that follows; parameters are those of /v1/completions, such as `max_tokens` and `temperature`."""
    return _text_output(await _generate_text(model, request, body, timeout, query_id))


async def _generate_text(
    model: BuiltIn,
    request: Request,
    body: InferRequest,
    timeout: float | None,
    query_id: str,
    emit: Emit | None = None,
) -> str:
    """The whole text, whose pieces `emit` has got as they came."""
    (given,) = body.inputs
    try:
        completion = CompletionRequest.model_validate(
            {**body.parameters, "model": model.model, "prompt": _only_text(given), "stream": False}
        )
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None
    state = state_of(request)
    stop = model.stop(**completion.generate_params().encode())
    query = state.planner.envelope(
        context_of(request),
        (stop,),
        timeout=timeout_of(timeout, state.settings),
        question=completion.prompt,
        query_id=query_id,
    )
    backend = await state.backend(hold=False)
    async with (
        client_disconnect(request.scope, request.receive) as departure,
        backend.queries.ask(query, departure, append_only=emit is not None) as session,
    ):
        try:
            while session.ended is None:
                parts = await session.parts(PING_SECONDS)
                text = "".join(part.text for part in parts if isinstance(part, NewText))
                if emit is not None and text:
                    await emit(_text_output(text))
        finally:
            if session.ended is not None or session.usage.completion_tokens:  # what broke off was written too
                named = session.ended.model if session.ended is not None else ""
                charge_tokens(request.scope, named or model.model, session.usage)
    return session.answer.text


def _text_output(text: str) -> tuple[Tensor, ...]:
    return (Tensor(name="text_output", datatype=Datatype.BYTES, shape=(1,), data=pack_bytes([text.encode()])),)


def _texts(tensor: Tensor) -> Sequence[str]:
    """Raises Problem INVALID_REQUEST."""
    if tensor.datatype is not Datatype.BYTES or tensor.elements == 0 or tensor.elements > MOST_TEXTS:
        detail = f"The input '{tensor.name}' takes 1 to {MOST_TEXTS:,} elements of BYTES."
        raise Problem(ProblemType.INVALID_REQUEST, detail)
    try:
        return [element.decode() for element in unpack_bytes(tensor.data)]
    except UnicodeDecodeError:
        raise Problem(ProblemType.INVALID_REQUEST, f"The input '{tensor.name}' is not UTF-8.") from None


def _only_text(tensor: Tensor) -> str:
    texts = _texts(tensor)
    if len(texts) != 1:
        raise Problem(ProblemType.INVALID_REQUEST, f"The input '{tensor.name}' takes one text, not {len(texts):,}.")
    return texts[0]


def _spec(name: str, datatype: Datatype, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


MODELS: Final[Mapping[str, tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], Infer]]] = {
    EMBED: ((_spec("text", Datatype.BYTES, -1),), (_spec("embedding", Datatype.FP32, -1, -1),), _embed),
    RERANK: (
        (_spec("query", Datatype.BYTES, 1), _spec("documents", Datatype.BYTES, -1)),
        (_spec("scores", Datatype.FP32, -1),),
        _rerank,
    ),
    GENERATE: ((_spec("text_input", Datatype.BYTES, 1),), (_spec("text_output", Datatype.BYTES, 1),), _generate),
}
