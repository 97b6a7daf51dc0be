"""The stage `predict`: answers calls to the models of the repository."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from opentelemetry.trace import Span

from services.predictor.peers.messages import PeerCall
from services.predictor.peers.peers import Peers
from services.predictor.repository.layout import ModelFolder, ModelVersionFiles
from services.predictor.repository.pool import ModelPool
from services.predictor.repository.repository import Repository
from services.predictor.serving.metrics import POSTPROCESS, PREDICT, PREPROCESS, counted, model_labels
from services.predictor.serving.served_model import ServedModel
from shared.contracts.envelope import Lane, Query
from shared.contracts.inference import Call, Verb
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import (
    InferenceOutcome,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelState,
    Tensor,
    TensorSpec,
)
from shared.runtime.stage import Context
from shared.stores.tensors import TensorStore
from shared.telemetry.tracing import tracer

__all__ = ["Predict"]

MOST_STATES: Final = 5_000
"""Versions in one listing: more do not fit into a message."""

LONGEST_REASON: Final = 80
"""Characters of each reason in a listing of many models."""


class Predict:
    """`longest` bytes of tensors at most are in one response."""

    def __init__(
        self, repository: Repository, pool: ModelPool, peers: Peers, tensors: TensorStore, *, longest: int
    ) -> None:
        self._repository = repository
        self._pool = pool
        self._peers = peers
        self._tensors = tensors
        self._longest = longest

    async def __call__(self, query: Query, _: Context) -> Query:
        call = Call.of(query)
        match call.verb:
            case Verb.INFER:
                outcome = await self._infer(query, call)
            case Verb.METADATA:
                outcome = await self._metadata(query, call)
            case Verb.READY:
                files = self._repository.candidates(call.model, call.version, query.tenant)
                outcome = InferenceOutcome(states=tuple(self._state(each) for each in files))
            case Verb.LOAD:
                outcome = await self._load(query, call)
            case Verb.INDEX:
                outcome = InferenceOutcome(states=self._index(query.tenant, call.model))
        return query.with_inference(outcome)

    async def infer_in_memory(self, asked: PeerCall) -> InferenceOutcome | None:
        """The outcome of another predictor's call, or None where the model is not in memory. Raises Problem."""
        (files, *_) = self._repository.candidates(asked.call.model, asked.call.version, asked.tenant)
        if not self._pool.holds(files):
            return None
        return await self._infer_here(asked.tenant, asked.lane, asked.call, [files])

    async def _infer(self, query: Query, call: Call) -> InferenceOutcome:
        candidates = self._repository.candidates(call.model, call.version, query.tenant)
        (files, *_) = candidates
        if not self._pool.holds(files) and not self._pool.has_room(files):
            outcome = await self._peers.infer(query, call, files)
            if outcome is not None:
                return outcome
        return await self._infer_here(query.tenant, query.lane, call, candidates)

    async def _infer_here(
        self, tenant: str, lane: Lane, call: Call, candidates: Sequence[ModelVersionFiles]
    ) -> InferenceOutcome:
        label = model_labels.label(call.model)
        with PREPROCESS.labels(label).time():
            request = await self._tensors.unpack_request(tenant, call.request)
        async with self._first_of(candidates) as (files, served):
            with counted(label, files.version), PREDICT.labels(label).time():
                outputs = await self._run(lane, files, served, request)
        response = InferResponse(model=files.model, version=files.version, id=request.id, outputs=outputs)
        with POSTPROCESS.labels(label).time():
            packed = await self._tensors.pack_response(tenant, response)
        return InferenceOutcome(response=packed)

    async def _metadata(self, query: Query, call: Call) -> InferenceOutcome:
        """Of the model's own tensors where it is in memory, or where its configuration does not name them."""
        model = self._repository.model(call.model, query.tenant)
        candidates = self._repository.candidates(call.model, call.version, query.tenant)
        declared = model.config.inputs and model.config.outputs
        if declared and not self._pool.is_loaded(candidates[0]):
            inputs = tuple(each.spec for each in model.config.inputs)
            outputs = tuple(each.spec for each in model.config.outputs)
            return _described(model, candidates[0], inputs, outputs)
        async with self._first_of(candidates) as (files, served):
            return _described(model, files, served.signature.inputs, served.signature.outputs)

    async def _load(self, query: Query, call: Call) -> InferenceOutcome:
        """Of a model without a version the newest; the others are loaded when they are asked for."""
        candidates = self._repository.candidates(call.model, call.version, query.tenant)
        async with self._first_of(candidates) as (files, _):
            return InferenceOutcome(states=(self._state(files),))

    def _index(self, tenant: str, name: str) -> tuple[ModelState, ...]:
        models = [model for model in self._repository.models(tenant) if name in ("", model.name)]
        longest = LONGEST_REASON if len(models) > 1 else None
        states = [state.shortened(longest) for model in models for state in self._states(model)]
        return tuple(states[:MOST_STATES])

    def _states(self, model: ModelFolder) -> Iterable[ModelState]:
        if model.versions:
            return [self._state(files) for files in model.versions]
        return [ModelState(name=model.name, ready=False, reason=model.problem)]

    def _state(self, files: ModelVersionFiles) -> ModelState:
        loaded, reason = self._pool.is_loaded(files), self._pool.failure(files)
        return ModelState(
            name=files.model, version=files.version, ready=loaded or not reason, loaded=loaded, reason=reason
        )

    @asynccontextmanager
    async def _first_of(
        self, candidates: Sequence[ModelVersionFiles]
    ) -> AsyncIterator[tuple[ModelVersionFiles, ServedModel]]:
        """The first of the versions that can be loaded. Raises the Problem of the first of all where none can."""
        failed: list[Problem] = []
        async with AsyncExitStack() as stack:
            for files in candidates:
                try:
                    served = await stack.enter_async_context(self._pool.model(files))
                except Problem as problem:
                    failed.append(problem)
                    continue
                yield files, served
                return
        raise failed[0]

    async def _run(
        self, lane: Lane, files: ModelVersionFiles, served: ServedModel, request: InferRequest
    ) -> tuple[Tensor, ...]:
        with self._span(files):
            outputs = await served.infer(request, lane)
        size = sum(len(tensor.data) for tensor in outputs)
        if size > self._longest:
            detail = (
                f"The outputs of the model '{files.model}' have {size:,} bytes, and {self._longest:,} are allowed "
                "(SLUICE_MAX_TENSOR_BYTES). Ask for fewer outputs, or send fewer rows."
            )
            raise Problem(ProblemType.TOO_LARGE, detail)
        return outputs

    def _span(self, files: ModelVersionFiles) -> AbstractContextManager[Span]:
        attributes: dict[str, str | int] = {
            "gen_ai.provider.name": "sluice",
            "gen_ai.request.model": files.model,
            "sluice.model.version": files.version,
        }
        return tracer.start_as_current_span(f"predict {files.model}", attributes=attributes)


def _described(
    model: ModelFolder, files: ModelVersionFiles, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> InferenceOutcome:
    metadata = ModelMetadata(
        name=model.name,
        versions=tuple(each.version for each in model.versions),
        platform=files.framework.platform if files.framework else "",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )
    return InferenceOutcome(metadata=metadata)
