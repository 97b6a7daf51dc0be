"""The service `grpc.health.v1.Health`: whether the gateway takes calls. No key is asked for, as at /readyz."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from services.gateway.inference.grpc.errors import SERVICE
from services.gateway.inference.grpc.protocol.health_pb2 import HealthCheckRequest, HealthCheckResponse

__all__ = ["Health"]

PATH: Final = "/grpc.health.v1.Health/"

SERVICES: Final = ("", SERVICE)

LOOK_SECONDS: Final = 0.5

MOST_WATCHERS: Final = 64
"""Each holds a call for as long as it likes."""

Context = grpc.aio.ServicerContext[Any, Any]
Status = HealthCheckResponse.ServingStatus


class Health(grpc.GenericRpcHandler):
    """`ready` is asked now and then, while `follow` runs, for those that watch."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._watchers = 0
        self._closed = False
        self._changed = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        if handler_call_details.method == f"{PATH}Check":
            return grpc.unary_unary_rpc_method_handler(self._check)
        if handler_call_details.method == f"{PATH}Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch)
        return None

    async def follow(self) -> None:
        """Ends when it is cancelled."""
        last = self._ready()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if (now := self._ready()) is not last:
                last = now
                self.notify()

    def notify(self) -> None:
        """Tell those that watch now."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Let nobody watch any more, as a server that stops waits for all calls."""
        self._closed = True
        self.notify()

    @property
    def _status(self) -> Status:
        return HealthCheckResponse.SERVING if self._ready() else HealthCheckResponse.NOT_SERVING

    async def _check(self, data: bytes, context: Context) -> bytes:
        if await _service(data, context) not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service.")
        return HealthCheckResponse(status=self._status).SerializeToString()

    async def _watch(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        known = await _service(data, context) in SERVICES
        if self._watchers >= MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WATCHERS} others watch already.")
        self._watchers += 1
        told = None
        try:
            while True:
                changed = self._changed
                status = self._status if known else HealthCheckResponse.SERVICE_UNKNOWN
                if status != told:
                    told = status
                    yield HealthCheckResponse(status=status).SerializeToString()
                if self._closed:
                    return
                await changed.wait()
        finally:
            self._watchers -= 1


async def _service(data: bytes, context: Context) -> str:
    try:
        return HealthCheckRequest.FromString(data).service
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The message is not a HealthCheckRequest.")
        raise
