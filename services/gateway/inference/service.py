"""Calls of models: those of the repository through the stage `predict`, and Sluice's own through their stages."""

import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from fastapi import Request
from nats.errors import Error as NatsError

from services.gateway.context import charge_tokens, context_of
from services.gateway.http.sse import PING_SECONDS, client_disconnect
from services.gateway.inference.built_in import find_built_in, list_built_ins
from services.gateway.payloads.recorder import LoggedCall
from services.gateway.queries.planner import SHORTEST_TIMEOUT, validate_timeout
from services.gateway.state import Backend, state_of
from shared.contracts.envelope import Query
from shared.contracts.events import Usage
from shared.contracts.inference import BUILT_IN_MODELS, MODEL_NAME, UNLOAD, Call, Unload, Verb
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferenceOutcome, InferRequest, InferResponse, ModelMetadata, ModelState

__all__ = [
    "describe_model",
    "index_models",
    "infer",
    "infer_stream",
    "load_model",
    "model_state",
    "refuse_configuration",
    "server_ready",
    "unload_model",
]

NAME: Final = re.compile(MODEL_NAME)

LOOK_SECONDS: Final = 5.0
"""Seconds for what a predictor knows without loading anything."""


async def server_ready(request: Request) -> bool:
    """Whether the gateway has a connection to the broker. Each model has a readiness of its own."""
    try:
        await state_of(request).backend(hold=False)
    except Problem:
        return False
    return True


async def infer(request: Request, model: str, version: str, body: InferRequest, timeout: float | None) -> InferResponse:
    """Raises the Problem with which the call ended, or ClientLeftError."""
    call = LoggedCall(model=model, version=version)
    with _logged(request, call, body) as log:
        response = await _infer(request, call, body, timeout)
        log(response)
    return response


async def _infer(request: Request, asked: LoggedCall, body: InferRequest, timeout: float | None) -> InferResponse:
    backend, model, version = await state_of(request).backend(hold=False), asked.model, asked.version
    if (built_in := await find_built_in(backend.models, model, version)) is not None:
        return await built_in.infer(request, body, _patience(request, timeout), asked.id)
    tenant = context_of(request).tenant
    packed = await backend.tensors.pack_request(tenant, body)
    try:
        call = Call(model=model, version=version, request=packed)
        outcome = await _call(request, backend, call, timeout, asked.id)
    finally:
        await _drop(backend, tenant, packed.stored)
    if outcome.response is None:
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'predict' did not return the outputs.")
    try:
        response = await backend.tensors.unpack_response(tenant, outcome.response)
    finally:
        await _drop(backend, tenant, outcome.response.stored)
    charge_tokens(request.scope, model, Usage())
    return response


async def infer_stream(
    request: Request,
    model: str,
    version: str,
    body: InferRequest,
    timeout: float | None,
    emit: Callable[[InferResponse], Awaitable[None]],
) -> InferResponse | None:
    """As `infer`, but that a model which streams emits its responses and returns None if the parameter `stream` is
    true."""
    if model in BUILT_IN_MODELS and body.parameters.get("stream") is True:
        backend = await state_of(request).backend(hold=False)
        built_in = await find_built_in(backend.models, model, version)
        if built_in is not None and built_in.streams:
            call = LoggedCall(model=model, version=version)
            with _logged(request, call, body) as log:
                log(await built_in.stream(request, body, _patience(request, timeout), emit, call.id))
            return None
    return await infer(request, model, version, body, timeout)


async def describe_model(request: Request, model: str, version: str) -> ModelMetadata:
    backend = await state_of(request).backend(hold=False)
    if (built_in := await find_built_in(backend.models, model, version)) is not None:
        return built_in.metadata
    outcome = await _call(request, backend, Call(verb=Verb.METADATA, model=model, version=version))
    if outcome.metadata is None:
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'predict' did not describe the model.")
    return outcome.metadata


async def model_state(request: Request, model: str, version: str) -> ModelState:
    """Of the version that answers: the newest that is ready, where none is named."""
    backend = await state_of(request).backend(hold=False)
    if await find_built_in(backend.models, model, version) is not None:
        return ModelState(name=model, version=version, loaded=True)
    outcome = await _call(request, backend, Call(verb=Verb.READY, model=model, version=version))
    if not outcome.states:
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'predict' did not say whether the model is ready.")
    return next((state for state in outcome.states if state.ready), outcome.states[0])


async def index_models(request: Request) -> Sequence[ModelState]:
    """Sluice's own first."""
    backend = await state_of(request).backend(hold=False)
    built_in = await list_built_ins(backend.models)
    states: Sequence[ModelState] = ()
    try:
        states = (await _call(request, backend, Call(verb=Verb.INDEX))).states
    except Problem as problem:
        # Where nobody has a repository there is no predictor either.
        if problem.kind is not ProblemType.STAGE_UNAVAILABLE or not built_in:
            raise
    return [*built_in, *states]


def refuse_configuration(parameters: Mapping[str, object]) -> None:
    """Raises Problem INVALID_REQUEST where a request to load a model has parameters."""
    if parameters:
        detail = "A model is loaded as its folder in the repository says: its configuration cannot be sent."
        raise Problem(ProblemType.INVALID_REQUEST, detail)


async def load_model(request: Request, model: str) -> None:
    backend = await state_of(request).backend(hold=False)
    _refuse_built_in(model)
    await _call(request, backend, Call(verb=Verb.LOAD, model=model))


async def unload_model(request: Request, model: str) -> None:
    """In every predictor. Raises Problem MODEL_NOT_FOUND."""
    backend = await state_of(request).backend(hold=False)
    _refuse_built_in(model)
    await _call(request, backend, Call(verb=Verb.READY, model=model))
    await backend.bus.client.publish(UNLOAD, Unload(model=model).model_dump_json().encode())
    await backend.bus.client.flush()


@contextmanager
def _logged(request: Request, call: LoggedCall, body: InferRequest) -> Iterator[Callable[[InferResponse], None]]:
    """Log a call once the block has ended, with the response that the block has named, unless there is no such
    model."""
    responses: list[InferResponse] = []
    try:
        yield responses.append
    except Exception as error:
        if not isinstance(error, Problem) or error.kind is not ProblemType.MODEL_NOT_FOUND:
            state_of(request).payloads.log(call, context_of(request), body, None)
        raise
    state_of(request).payloads.log(call, context_of(request), body, responses[0])


async def _call(
    request: Request, backend: Backend, call: Call, timeout: float | None = None, query_id: str = ""
) -> InferenceOutcome:
    if call.verb is not Verb.INDEX and not NAME.fullmatch(call.model):
        raise Problem(ProblemType.MODEL_NOT_FOUND, f"There is no model {call.model[:80]!r}.")
    state, context = state_of(request), context_of(request)
    seconds = validate_timeout(_patience(request, timeout), state.settings)
    if call.verb in (Verb.INDEX, Verb.READY):
        seconds = min(seconds, LOOK_SECONDS)
    query: Query = state.planner.envelope(context, (call.stop(),), timeout=seconds, query_id=query_id)
    async with (
        client_disconnect(request.scope, request.receive) as departure,
        backend.queries.ask(query, departure, append_only=False) as session,
    ):
        while session.ended is None:
            await session.parts(PING_SECONDS)
    results = session.ended.results
    if results is None or results.inference is None:
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'predict' gave no answer.")
    return results.inference


def _patience(request: Request, timeout: float | None) -> float | None:
    """The seconds that the request names, or else all that its client waits, where that is known."""
    latest = context_of(request).latest
    if timeout is not None or latest is None:
        return timeout
    return min(max(latest - time.time(), SHORTEST_TIMEOUT), state_of(request).settings.longest_deadline)


def _refuse_built_in(model: str) -> None:
    if model in BUILT_IN_MODELS:
        detail = f"The model '{model}' is Sluice's own: the service that has it loads it when it starts."
        raise Problem(ProblemType.INVALID_REQUEST, detail)


async def _drop(backend: Backend, tenant: str, stored: str | None) -> None:
    """What cannot be removed now goes by itself later."""
    try:
        await backend.tensors.drop(tenant, stored)
    except (NatsError, TimeoutError):
        return
