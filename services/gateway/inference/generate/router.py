"""POST /v2/models/{model}/generate and /generate_stream"""

from collections.abc import Awaitable
from typing import Any, Final

from fastapi import Request
from pydantic import ValidationError
from starlette.responses import Response

from services.gateway.auth.dependencies import direct_router, requires
from services.gateway.http.body import read_bounded, refuse_other_sites
from services.gateway.http.openapi import event_stream, request_body
from services.gateway.http.problems import invalid_request
from services.gateway.inference.codec import MOST_JSON, decompressed, off_the_loop
from services.gateway.inference.errors import MODEL_ERRORS
from services.gateway.inference.generate.codec import (
    GenerateBody,
    GenerateResponseBody,
    decode_generate,
    encode_generate,
)
from services.gateway.inference.generate.stream import Emit, StreamedInference
from services.gateway.inference.openapi import MODEL, VERSION_PARAMETER
from services.gateway.inference.service import describe_model, infer, infer_stream
from services.gateway.state import state_of
from shared.contracts.inference import BUILT_IN_MODELS
from shared.contracts.keys import Action
from shared.contracts.tensors import InferRequest, InferResponse

__all__ = ["router"]

router = direct_router("inference")

OF_MODEL: Final[dict[str, Any]] = {**request_body(json=GenerateBody), "parameters": [MODEL]}
OF_VERSION: Final[dict[str, Any]] = {**request_body(json=GenerateBody), "parameters": [MODEL, VERSION_PARAMETER]}

WHOLE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": GenerateResponseBody, "description": "The outputs by name"},
    **MODEL_ERRORS,
}
STREAM: Final = event_stream(
    "Events whose data are a GenerateResponseBody, or an InferenceError where the inference breaks off.",
    GenerateResponseBody,
)
STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The outputs by name, piece by piece", "content": STREAM},
    **MODEL_ERRORS,
}


@router.post(
    "/v2/models/{model}/generate",
    summary="Have a model generate",
    response_class=Response,
    openapi_extra=OF_MODEL,
    responses=WHOLE,
)
@router.post(
    "/v2/models/{model}/versions/{version}/generate",
    summary="Have a version generate",
    response_class=Response,
    openapi_extra=OF_VERSION,
    responses=WHOLE,
)
@requires(Action.QUERY)
async def generate(request: Request) -> Response:
    """Triton's generate extension: inputs, outputs and parameters are members of the JSON, by their names."""
    asked, timeout = await _decoded(request)
    model, version = request.path_params["model"], request.path_params.get("version", "")
    response = await infer(request, model, version, asked, timeout)
    size = sum(len(each.data) for each in response.outputs)
    return Response(await off_the_loop(size, encode_generate, response), media_type="application/json")


@router.post(
    "/v2/models/{model}/generate_stream",
    summary="Have a model generate, piece by piece",
    response_class=Response,
    openapi_extra=OF_MODEL,
    responses=STREAMED,
)
@router.post(
    "/v2/models/{model}/versions/{version}/generate_stream",
    summary="Have a version generate, piece by piece",
    response_class=Response,
    openapi_extra=OF_VERSION,
    responses=STREAMED,
)
@requires(Action.QUERY)
async def generate_stream(request: Request) -> Response:
    """As `generate`, in server-sent events. Of models that do not stream there is one."""
    asked, timeout = await _decoded(request)
    model, version = request.path_params["model"], request.path_params.get("version", "")
    if model in BUILT_IN_MODELS:
        asked = asked.model_copy(update={"parameters": asked.parameters | {"stream": True}})

    def streamed(request: Request, emit: Emit) -> Awaitable[InferResponse | None]:
        return infer_stream(request, model, version, asked, timeout, emit)

    return StreamedInference(streamed)


async def _decoded(request: Request) -> tuple[InferRequest, float | None]:
    await refuse_other_sites(request)
    body = b"".join([piece async for piece in read_bounded(request, MOST_JSON)])
    encoding = request.headers.get("content-encoding", "").strip().lower()

    def parsed() -> GenerateBody:
        try:
            return GenerateBody.model_validate_json(decompressed(body, encoding, MOST_JSON))
        except ValidationError as error:
            raise invalid_request(error.errors(include_url=False, include_input=False)) from None

    size = MOST_JSON if encoding else len(body)
    given = await off_the_loop(size, parsed)
    described = await describe_model(request, request.path_params["model"], request.path_params.get("version", ""))
    longest = state_of(request).settings.max_tensor_bytes
    return await off_the_loop(size, decode_generate, given, described.inputs, longest)
