"""Responses of an inference as server-sent events, one event each."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.http.problems import ClientLeftError, response_to
from services.gateway.http.sse import PING_SECONDS, Channel, Event
from services.gateway.inference.codec import off_the_loop
from services.gateway.inference.generate.codec import encode_generate
from services.gateway.queries.responses import EARLY_HEADERS, LAST_WORDS
from shared.contracts.tensors import InferResponse
from shared.tasks import background

__all__ = ["Emit", "StreamedInference"]

Emit = Callable[[InferResponse], Awaitable[None]]
Infer = Callable[[Request, Emit], Awaitable[InferResponse | None]]


class StreamedInference(Response):
    """`infer` emits responses and returns the last, None where it has emitted all. Raises what it raises before the
    first event; later an error is the last event, in the protocol's form."""

    def __init__(self, infer: Infer) -> None:
        super().__init__()
        self._infer = infer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, channel, turn = Request(scope, receive), Channel(send), asyncio.Lock()

        async def emit(response: InferResponse) -> None:
            size = sum(len(tensor.data) for tensor in response.outputs)
            event = Event(await off_the_loop(size, encode_generate, response))
            async with turn:
                await channel.send(event)

        try:
            async with background(_ping(channel, turn)):
                last = await self._infer(request, emit)
            if last is not None:
                await emit(last)
        except ClientLeftError:
            if not channel.started:
                raise
            return
        except Exception as error:
            if not channel.started:
                raise
            failed = await response_to(request, error)
            with anyio.move_on_after(LAST_WORDS):
                await channel.send(Event(bytes(failed.body)))
                await channel.close()
            return
        await channel.close()


async def _ping(channel: Channel, turn: asyncio.Lock) -> None:
    """Tell the client and the proxies on the way that the request is in work."""
    patience = EARLY_HEADERS
    while True:
        await asyncio.sleep(patience)
        async with turn:
            await channel.ping()
        patience = PING_SECONDS
