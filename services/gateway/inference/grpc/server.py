"""The gateway's gRPC server: on a port of its own, beside the HTTP server and with its order of stopping."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import grpc
from fastapi import FastAPI
from google.protobuf.message import Message

from services.gateway.auth.exposure import listening_address
from services.gateway.inference.grpc.calls import Call, CallApp
from services.gateway.inference.grpc.errors import DIALECT
from services.gateway.inference.grpc.health import Health
from services.gateway.inference.grpc.methods import METHODS, STREAM_INFER, Method
from services.gateway.inference.grpc.protocol.inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from services.gateway.inference.models import HEAD, JSON_SHARE
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import Problem, ProblemType
from shared.service.service import ASGIApp, Service
from shared.tasks import background

__all__ = ["Calls", "serve_grpc"]

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS: Final = 60
KEEPALIVE_TIMEOUT: Final = 20
"""A client that has gone without a word is noticed so soon, and its calls are cancelled."""

CONNECTION_SECONDS: Final = 600
"""Then a client is asked to connect anew, so that it finds gateways that have started since. Its calls go on."""

Context = grpc.aio.ServicerContext[Any, Any]


class Calls(grpc.GenericRpcHandler):
    """Serves the methods. `app` is what surrounds every call, around a `CallApp`. Once `closing` is set, streams end
    with the request that is in work."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self.closing = asyncio.Event()
        self._app = app
        self._settings = settings

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        if handler_call_details.method == STREAM_INFER.path:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        method = METHODS.get(handler_call_details.method or "")
        if method is None:
            return None
        # To the client it is one message. gRPC would read that before it calls, and so before any key is checked.
        return grpc.stream_unary_rpc_method_handler(partial(self._unary, method))

    async def _unary(self, method: Method, _: object, context: Context) -> bytes:
        call = Call(method, context, partial(self._read, method, context))
        await call.run(self._app)
        await _begin_response(call, context)
        assert call.response is not None
        return call.response.SerializeToString()

    async def _stream(self, _: object, context: Context) -> None:
        """Requests one after another. The key is checked before the first is read, and again for each."""

        async def nothing() -> Message:
            return ModelInferRequest()

        beginning = Call(STREAM_INFER, context, nothing)
        await beginning.run(self._app)
        await _begin_response(beginning, context)

        async def write(response: Message) -> None:
            await context.write(response.SerializeToString())

        while isinstance(data := await self._next(context), bytes):
            call = Call(STREAM_INFER, context, partial(self._decode, data), write)
            await call.run(self._app)
            if call.code is not grpc.StatusCode.OK:
                failed = ModelInferResponse(id=getattr(call.message, "id", ""))
                await write(ModelStreamInferResponse(error_message=call.text, infer_response=failed))
            elif call.response is not None:
                await write(call.response)

    async def _decode(self, data: bytes) -> Message:
        return STREAM_INFER.decode(data, longest_message(self._settings))

    async def _next(self, context: Context) -> object:
        """The next message, or something else once there is none. Aborts the call when the server stops."""
        reading = asyncio.ensure_future(context.read())
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
        finally:
            reading.cancel()
            closing.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The gateway stops: begin another stream.")
        raise AssertionError

    async def _read(self, method: Method, context: Context) -> Message:
        seconds = self._settings.body_seconds
        try:
            data = await asyncio.wait_for(context.read(), seconds)
        except TimeoutError:
            raise Problem(ProblemType.TOO_SLOW, f"The message did not arrive within {seconds:g} s.") from None
        if not isinstance(data, bytes):
            raise Problem(ProblemType.INVALID_REQUEST, "The call has no message.")
        return method.decode(data, longest_message(self._settings))


async def _begin_response(call: Call, context: Context) -> None:
    """Send what goes before the messages of a call, or abort it if it has failed."""
    if call.code is not grpc.StatusCode.OK:
        await context.abort(call.code, call.text, tuple(call.metadata))
    await context.send_initial_metadata(tuple(call.metadata))


def longest_message(settings: GatewaySettings) -> int:
    """Bytes of a message, with the elements of its tensors raw or typed."""
    return JSON_SHARE * settings.max_tensor_bytes + HEAD


@asynccontextmanager
async def serve_grpc(
    service: Service, settings: GatewaySettings, app: FastAPI, surrounded: Callable[[ASGIApp], ASGIApp]
) -> AsyncIterator[None]:
    """Serve calls while the block runs. Raises OSError where the port is not available.

    `app` is the one whose requests over HTTP the calls are like, and `surrounded` puts around an ASGI app what
    surrounds it. Once the service drains and has lingered, no call is taken any more, and those in work may finish.
    """
    app.state.dialects = (DIALECT, *app.state.dialects)
    health = Health(lambda: service.ready)
    longest = longest_message(settings)
    calls = Calls(surrounded(CallApp(app)), settings)
    server = grpc.aio.server(
        handlers=[calls, health],
        maximum_concurrent_rpcs=settings.grpc_calls,
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", min(longest, 2**31 - 1)),
            ("grpc.max_send_message_length", -1),
            # gRPC would decompress without a bound: `Method.decode` has one.
            ("grpc.per_message_decompression", 0),
            ("grpc.server_handshake_timeout_ms", int(settings.http_head_seconds * 1000)),
            ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT * 1000),
            ("grpc.max_connection_age_ms", CONNECTION_SECONDS * 1000),
        ],
    )
    port = _listen(server, listening_address(settings), settings.grpc_port or 0)
    await server.start()
    log.info("serving gRPC", extra={"port": port})

    async def stop() -> None:
        await service.draining.wait()
        health.notify()
        await asyncio.sleep(settings.linger_seconds)
        health.close()
        calls.closing.set()
        await server.stop(settings.grace_seconds)

    stopping = asyncio.create_task(stop())
    try:
        async with background(health.follow()):
            yield
    finally:
        if service.draining.is_set():
            await stopping
        else:
            stopping.cancel()
            await server.stop(None)


def _listen(server: grpc.aio.Server, host: str, port: int) -> int:
    if host.startswith("/"):
        host = "127.0.0.1"  # HTTP has a socket in the file system
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return int(server.add_insecure_port(address))
    except RuntimeError:
        log.critical("cannot serve gRPC at %s: is the port in use? Change SLUICE_GRPC_PORT", address)
        raise OSError(f"cannot listen at {address}") from None
