"""The methods of the service: from a request's message to the response's."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from google.protobuf.message import DecodeError, Message
from starlette.requests import Request

from services.gateway.inference.codec import decompressed
from services.gateway.inference.grpc.codec import decode_inference, encode_inference, read_parameters
from services.gateway.inference.grpc.errors import SERVICE
from services.gateway.inference.grpc.protocol.inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStreamInferResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from services.gateway.inference.models import EXTENSIONS, IndexedModel
from services.gateway.inference.service import (
    describe_model,
    index_models,
    infer,
    infer_stream,
    load_model,
    model_state,
    refuse_configuration,
    server_ready,
    unload_model,
)
from services.gateway.state import state_of
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferResponse, TensorSpec
from shared.version import VERSION

__all__ = ["METHODS", "STREAM_INFER", "WRITE", "Method", "Write"]

GZIP: Final = b"\x1f"
ZLIB: Final = b"\x78"
"""First bytes of a compressed message. None of ours begins so: no field has the type 7, or the number 15."""


WRITE: Final = "sluice.grpc_write"
"""Member of an ASGI scope of a stream: the `Write` of a response before the last."""

ENABLE_END: Final = "triton_enable_empty_final_response"
END: Final = "triton_final_response"
"""Parameters by which a client wants to be told, and is, that a request of a stream has had its last response."""

Write = Callable[[ModelStreamInferResponse], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """`required` are actions of which a key needs one. `run` raises the Problem of a call."""

    name: str
    message: type[Message]
    run: Callable[[Request, Any], Awaitable[Message | None]]
    required: tuple[Action, ...] = (Action.QUERY, Action.READ)

    @property
    def path(self) -> str:
        return f"/{SERVICE}/{self.name}"

    def decode(self, data: bytes, longest: int) -> Message:
        """A request's message, compressed or not, of at most the longest bytes. Raises Problem INVALID_REQUEST or
        TOO_LARGE."""
        if data[:1] in (GZIP, ZLIB):
            data = decompressed(data, "gzip" if data[:1] == GZIP else "deflate", longest)
        try:
            return self.message.FromString(data)
        except DecodeError:
            detail = f"The message is not an inference.{self.message.__name__}."
            raise Problem(ProblemType.INVALID_REQUEST, detail) from None


async def _server_live(_: Request, __: ServerLiveRequest) -> ServerLiveResponse:
    return ServerLiveResponse(live=True)


async def _server_ready(request: Request, _: ServerReadyRequest) -> ServerReadyResponse:
    return ServerReadyResponse(ready=await server_ready(request))


async def _server_metadata(_: Request, __: ServerMetadataRequest) -> ServerMetadataResponse:
    return ServerMetadataResponse(name="sluice", version=VERSION, extensions=EXTENSIONS)


async def _model_ready(request: Request, message: ModelReadyRequest) -> ModelReadyResponse:
    """A model that is not there is not ready: clients expect no error."""
    try:
        state = await model_state(request, message.name, message.version)
    except Problem as problem:
        if problem.kind is not ProblemType.MODEL_NOT_FOUND:
            raise
        return ModelReadyResponse(ready=False)
    return ModelReadyResponse(ready=state.ready)


async def _model_metadata(request: Request, message: ModelMetadataRequest) -> ModelMetadataResponse:
    described = await describe_model(request, message.name, message.version)
    return ModelMetadataResponse(
        name=described.name,
        versions=described.versions,
        platform=described.platform,
        inputs=map(_tensor, described.inputs),
        outputs=map(_tensor, described.outputs),
    )


async def _infer(request: Request, message: ModelInferRequest) -> ModelInferResponse:
    decoded = decode_inference(message, state_of(request).settings.max_tensor_bytes)
    response = await infer(request, message.model_name, message.model_version, decoded.request, decoded.timeout)
    return encode_inference(response, raw=decoded.raw)


async def _infer_streamed(request: Request, message: ModelInferRequest) -> ModelStreamInferResponse | None:
    """The last response of a request, those before it are written. There is none where all of a text has been written
    and the client does not want to be told."""
    if not message.ByteSize():
        return None
    write: Write = request.scope[WRITE]
    decoded = decode_inference(message, state_of(request).settings.max_tensor_bytes)
    parameters = dict(decoded.request.parameters)
    wants_end = parameters.pop(ENABLE_END, False) is True
    asked = decoded.request.model_copy(update={"parameters": parameters})

    def encoded(response: InferResponse, *, is_last: bool) -> ModelStreamInferResponse:
        encoded = encode_inference(response, raw=decoded.raw)
        if wants_end:
            encoded.parameters[END].bool_param = is_last
        return ModelStreamInferResponse(infer_response=encoded)

    async def emit(response: InferResponse) -> None:
        await write(encoded(response, is_last=False))

    model, version = message.model_name, message.model_version
    response = await infer_stream(request, model, version, asked, decoded.timeout, emit)
    if response is None and wants_end:
        response = InferResponse(model=model, version=version, id=message.id)
    return None if response is None else encoded(response, is_last=True)


async def _index(request: Request, message: RepositoryIndexRequest) -> RepositoryIndexResponse:
    states = [state for state in await index_models(request) if state.ready or not message.ready]
    models = [IndexedModel.of(state).model_dump() for state in states]
    return RepositoryIndexResponse(models=[RepositoryIndexResponse.ModelIndex(**model) for model in models])


async def _load(request: Request, message: RepositoryModelLoadRequest) -> RepositoryModelLoadResponse:
    model = _model_of(request, message)
    refuse_configuration(read_parameters(message.parameters))
    await load_model(request, model)
    return RepositoryModelLoadResponse(model_name=model, is_loaded=True)


async def _unload(request: Request, message: RepositoryModelUnloadRequest) -> RepositoryModelUnloadResponse:
    model = _model_of(request, message)
    await unload_model(request, model)
    return RepositoryModelUnloadResponse(model_name=model, is_unloaded=True)


def _model_of(request: Request, message: RepositoryModelLoadRequest | RepositoryModelUnloadRequest) -> str:
    """The model that is named, which the audit log then has as the object of the call."""
    model = message.model_name or message.repository_name
    request.scope["query_string"] = urlencode({"model": model}).encode()
    return model


def _tensor(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype.value, shape=spec.shape)


METHODS: Final[Mapping[str, Method]] = {
    method.path: method
    for method in (
        Method(name="ServerLive", message=ServerLiveRequest, run=_server_live),
        Method(name="ServerReady", message=ServerReadyRequest, run=_server_ready),
        Method(name="ServerMetadata", message=ServerMetadataRequest, run=_server_metadata),
        Method(name="ModelReady", message=ModelReadyRequest, run=_model_ready),
        Method(name="ModelMetadata", message=ModelMetadataRequest, run=_model_metadata),
        Method(name="ModelInfer", message=ModelInferRequest, run=_infer, required=(Action.QUERY,)),
        Method(name="RepositoryIndex", message=RepositoryIndexRequest, run=_index),
        Method(name="RepositoryModelLoad", message=RepositoryModelLoadRequest, run=_load, required=(Action.ADMIN,)),
        Method(
            name="RepositoryModelUnload", message=RepositoryModelUnloadRequest, run=_unload, required=(Action.ADMIN,)
        ),
    )
}
"""By their paths."""

STREAM_INFER: Final = Method(
    name="ModelStreamInfer", message=ModelInferRequest, run=_infer_streamed, required=(Action.QUERY,)
)
"""Each request of a stream is a call of its own, and so is its beginning, which has no message."""
