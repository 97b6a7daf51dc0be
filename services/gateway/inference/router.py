"""/v2: the Open Inference Protocol; and POST /v1/models/{model}:predict"""

from typing import Annotated, Any, Final, TypeVar

from fastapi import Path, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from services.gateway.auth.dependencies import authenticated_router, direct_router, requires
from services.gateway.http.body import read_bounded, read_json, refuse_other_sites
from services.gateway.http.openapi import problems, request_body
from services.gateway.http.problems import invalid_request
from services.gateway.inference import predictions
from services.gateway.inference.codec import (
    JSON_LENGTH,
    MOST_JSON,
    DecodedRequest,
    decode_request,
    decompressed,
    encode_response,
    off_the_loop,
)
from services.gateway.inference.errors import MODEL_ERRORS, errors
from services.gateway.inference.models import (
    EXTENSIONS,
    HEAD,
    JSON_SHARE,
    IndexedModel,
    InferBody,
    InferResponseBody,
    LiveBody,
    LoadBody,
    MetadataBody,
    PredictBody,
    PredictResponseBody,
    ReadyBody,
    ReadyModelBody,
    RepositoryIndexBody,
    ServerBody,
    TensorMetadata,
)
from services.gateway.inference.openapi import JSON_LENGTH_PARAMETER, MODEL, VERSION_PARAMETER
from services.gateway.inference.service import (
    describe_model,
    index_models,
    infer,
    load_model,
    model_state,
    refuse_configuration,
    server_ready,
    unload_model,
)
from services.gateway.state import state_of
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from shared.contracts.tensors import ModelMetadata, ModelState
from shared.version import VERSION

__all__ = ["router"]

Body = TypeVar("Body", bound=BaseModel)

router = authenticated_router("inference")
direct = direct_router("inference")

ModelPath = Annotated[str, Path(description="A model of the repository, or `embed`, `rerank` or `generate`.")]
VersionPath = Annotated[str, Path(description="A version that the model's metadata list.")]

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": InferResponseBody,
        "description": "The outputs; those that are binary follow the JSON",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    **MODEL_ERRORS,
}

LOOKED_UP: Final = errors(
    ProblemType.MODEL_NOT_FOUND,
    ProblemType.MODEL_UNAVAILABLE,
    ProblemType.QUEUE_FULL,
    ProblemType.STAGE_UNAVAILABLE,
    ProblemType.STAGE_FAILED,
    ProblemType.DEADLINE_EXCEEDED,
)


@router.get("/v2", summary="Describe the inference server", responses=problems())
@requires(Action.QUERY, Action.READ)
async def server() -> ServerBody:
    """As the Open Inference Protocol has it."""
    return ServerBody(name="sluice", version=VERSION, extensions=list(EXTENSIONS))


@router.get("/v2/health/live", summary="Say whether the server lives", responses=errors())
@requires(Action.QUERY, Action.READ)
async def live() -> LiveBody:
    return LiveBody()


@router.get(
    "/v2/health/ready",
    summary="Say whether the server answers inferences",
    responses={503: {"model": ReadyBody, "description": "It does not"}, **errors()},
)
@requires(Action.QUERY, Action.READ)
async def ready(request: Request, response: Response) -> ReadyBody:
    """Whether the gateway has a connection to the broker. Each model has a readiness of its own."""
    is_ready = await server_ready(request)
    if not is_ready:
        response.status_code = 503
    return ReadyBody(ready=is_ready)


@router.get("/v2/models/{model}", summary="Describe a model's tensors", responses=LOOKED_UP)
@requires(Action.QUERY, Action.READ)
async def metadata(model: ModelPath, request: Request) -> MetadataBody:
    """Loads the model where its configuration does not name its tensors."""
    return _metadata(await describe_model(request, model, ""))


@router.get("/v2/models/{model}/versions/{version}", summary="Describe a version's tensors", responses=LOOKED_UP)
@requires(Action.QUERY, Action.READ)
async def version_metadata(model: ModelPath, version: VersionPath, request: Request) -> MetadataBody:
    return _metadata(await describe_model(request, model, version))


@router.get(
    "/v2/models/{model}/ready",
    summary="Say whether a model answers inferences",
    responses={**LOOKED_UP, 503: {"model": ReadyModelBody, "description": "It does not; `reason` says why"}},
)
@requires(Action.QUERY, Action.READ)
async def model_ready(model: ModelPath, request: Request, response: Response) -> ReadyModelBody:
    """A model that is not in memory is ready unless it is known that it cannot be loaded."""
    return _readiness(await model_state(request, model, ""), response)


@router.get(
    "/v2/models/{model}/versions/{version}/ready",
    summary="Say whether a version answers inferences",
    responses={**LOOKED_UP, 503: {"model": ReadyModelBody, "description": "It does not; `reason` says why"}},
)
@requires(Action.QUERY, Action.READ)
async def version_ready(model: ModelPath, version: VersionPath, request: Request, response: Response) -> ReadyModelBody:
    return _readiness(await model_state(request, model, version), response)


@direct.post(
    "/v2/models/{model}/infer",
    summary="Have a model infer",
    response_class=Response,
    openapi_extra={**request_body(json=InferBody), "parameters": [MODEL, JSON_LENGTH_PARAMETER]},
    responses=RESPONSES,
)
@direct.post(
    "/v2/models/{model}/versions/{version}/infer",
    summary="Have a version infer",
    response_class=Response,
    openapi_extra={**request_body(json=InferBody), "parameters": [MODEL, VERSION_PARAMETER, JSON_LENGTH_PARAMETER]},
    responses=RESPONSES,
)
@requires(Action.QUERY)
async def run_inference(request: Request) -> Response:
    """Tensors are JSON, or binary behind it. Without a version it is the newest that can be loaded."""
    await refuse_other_sites(request)
    decoded = await _decoded(request)
    model, version = request.path_params["model"], request.path_params.get("version", "")
    response = await infer(request, model, version, decoded.request, decoded.timeout)
    return await off_the_loop(sum(len(each.data) for each in response.outputs), encode_response, response, decoded)


@direct.post(
    "/v1/models/{model}:predict",
    summary="Have a model infer, in version 1 of KServe's protocol",
    response_class=Response,
    openapi_extra={**request_body(json=PredictBody), "parameters": [MODEL]},
    responses={200: {"model": PredictResponseBody, "description": "One prediction for each row"}, **MODEL_ERRORS},
)
@requires(Action.QUERY)
async def predict(request: Request) -> Response:
    """Each instance is a row: its elements for a model of one input, else an object with a member for each input."""
    longest = state_of(request).settings.max_tensor_bytes
    body = await read_json(request, PredictBody, MOST_JSON)
    model = request.path_params["model"]
    described = await describe_model(request, model, "")
    asked = await off_the_loop(MOST_JSON, predictions.request_of, body, described, longest)
    del body
    answered = await infer(request, model, "", asked, None)

    def encoded() -> bytes:
        return to_json({"predictions": predictions.predictions_of(answered)})

    size = sum(len(each.data) for each in answered.outputs)
    return Response(await off_the_loop(size, encoded), media_type="application/json")


@router.post(
    "/v2/repository/index",
    summary="List the models",
    openapi_extra=request_body(json=RepositoryIndexBody, required=False),
    responses=errors(ProblemType.QUEUE_FULL, ProblemType.STAGE_UNAVAILABLE, ProblemType.STAGE_FAILED),
)
@requires(Action.QUERY, Action.READ)
async def index(request: Request) -> list[IndexedModel]:
    """Every version that is served, as one predictor sees it; Sluice's own models first."""
    await refuse_other_sites(request)
    body = await _optional(request, RepositoryIndexBody)
    states = await index_models(request)
    return [IndexedModel.of(state) for state in states if state.ready or not body.ready]


@router.post(
    "/v2/repository/models/{model}/load",
    summary="Load a model now",
    response_class=Response,
    openapi_extra=request_body(json=LoadBody, required=False),
    responses=MODEL_ERRORS,
)
@requires(Action.ADMIN)
async def load(model: ModelPath, request: Request) -> Response:
    """In one predictor: others load it when they are asked for it."""
    await refuse_other_sites(request)
    refuse_configuration((await _optional(request, LoadBody)).parameters)
    await load_model(request, model)
    return Response(b"{}", media_type="application/json")


@router.post(
    "/v2/repository/models/{model}/unload",
    summary="Drop a model from memory",
    response_class=Response,
    responses=MODEL_ERRORS,
)
@requires(Action.ADMIN)
async def unload(model: ModelPath, request: Request) -> Response:
    """In every predictor, once no request uses it. The next request for it loads it again."""
    await refuse_other_sites(request)
    await unload_model(request, model)
    return Response(b"{}", media_type="application/json")


async def _decoded(request: Request) -> DecodedRequest:
    """The body as a request. Nothing holds the body itself while the model works."""
    longest = state_of(request).settings.max_tensor_bytes
    limit = JSON_SHARE * longest + MOST_JSON
    body = b"".join([piece async for piece in read_bounded(request, limit)])
    encoding = request.headers.get("content-encoding", "").strip().lower()
    json_length = request.headers.get(JSON_LENGTH)

    def decode() -> DecodedRequest:
        return decode_request(decompressed(body, encoding, limit), json_length, longest)

    # What is compressed may be small and become large.
    return await off_the_loop(limit if encoding else len(body), decode)


async def _optional(request: Request, model: type[Body]) -> Body:
    """A small body of JSON, of whatever media type, or none."""
    body = b"".join([piece async for piece in read_bounded(request, HEAD)])
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None


def _metadata(described: ModelMetadata) -> MetadataBody:
    return MetadataBody(
        name=described.name,
        versions=list(described.versions),
        platform=described.platform,
        inputs=[TensorMetadata.model_validate(spec.model_dump()) for spec in described.inputs],
        outputs=[TensorMetadata.model_validate(spec.model_dump()) for spec in described.outputs],
    )


def _readiness(state: ModelState, response: Response) -> ReadyModelBody:
    if not state.ready:
        response.status_code = 503
    return ReadyModelBody(name=state.name, version=state.version, ready=state.ready, reason=state.reason)


router.include_router(direct)
