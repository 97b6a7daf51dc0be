"""A small OpenAI-compatible server that speaks real HTTP and misbehaves on demand."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["ModelServer"]

WORDS = ("The ", "answer ", "is ", "42 ", "[1].")


@dataclass
class ModelServer:
    """What it does next: `failures` are answered first, in order, then `mode` decides.

    Modes: "answer" streams WORDS; "break" cuts the connection after two words; "end" ends the stream after two
    words; "hang" never answers; "stall" stops after two words; "endless" writes until the reader leaves;
    "error" sends an error event after two words; "garbage" sends what is no JSON; "filter" ends by content filter.
    """

    key: str = "sk-secret"
    mode: str = "answer"
    failures: list[int] = field(default_factory=list)
    models: tuple[str, ...] = ("tiny",)
    usage: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    serving: int = 0
    most_serving: int = 0
    disconnected: anyio.Event = field(default_factory=anyio.Event)
    asked: anyio.Event = field(default_factory=anyio.Event)
    base_url: str = ""

    @asynccontextmanager
    async def run(self) -> AsyncIterator["ModelServer"]:
        app = Starlette(
            routes=[
                Route("/v1/models", self.list_models),
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
            ]
        )
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listener])
                try:
                    yield self
                finally:
                    server.should_exit = server.force_exit = True

    async def list_models(self, request: Request) -> Response:
        if refusal := self.refuse(request):
            return refusal
        return JSONResponse({"object": "list", "data": [model_object(name) for name in self.models]})

    async def complete(self, request: Request) -> Response:
        if refusal := self.refuse(request):
            return refusal
        self.requests.append(await request.json())
        assert request.client is not None
        self.connections.add(request.client.port)
        self.asked.set()
        if self.failures:
            status = self.failures.pop(0)
            return error(status, f"status {status} for key {self.key}", {"retry-after-ms": "1"})
        if self.mode == "hang":
            await self.wait_for_the_reader_to_leave(request)
        return StreamingResponse(self.stream(), media_type="text/event-stream")

    def refuse(self, request: Request) -> Response | None:
        if request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        return error(401, f"Incorrect API key provided: {request.headers.get('authorization')}")

    async def wait_for_the_reader_to_leave(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()

    async def stream(self) -> AsyncIterator[bytes]:
        self.serving += 1
        self.most_serving = max(self.serving, self.most_serving)
        try:
            async for part in self.parts():
                yield part
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            self.disconnected.set()
            raise
        finally:
            self.serving -= 1

    async def parts(self) -> AsyncIterator[bytes]:
        if self.mode == "garbage":
            yield b"data: {nonsense\n\n"
            return
        for number, word in enumerate(WORDS):
            if number == 2 and self.mode != "answer":
                async for part in self.misbehave():
                    yield part
                return
            yield chunk({"content": word})
            await anyio.lowlevel.checkpoint()
        yield chunk({}, finish="stop")
        if self.usage:
            yield event({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}})
        yield b"data: [DONE]\n\n"

    async def misbehave(self) -> AsyncIterator[bytes]:
        match self.mode:
            case "break":
                raise ConnectionResetError("broken on purpose")
            case "stall":
                await anyio.sleep_forever()
            case "error":
                yield b'data: {"error": {"message": "out of memory"}}\n\n'
            case "filter":
                yield chunk({}, finish="content_filter")
            case "length":
                yield chunk({}, finish="length")
            case "endless":
                while True:
                    yield chunk({"content": "more "})
                    await anyio.sleep(0.001)


def model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "test"}


def error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message}}, status_code=status, headers=headers)


def event(payload: dict[str, Any]) -> bytes:
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 0, "model": "tiny", **payload}
    return f"data: {json.dumps(whole)}\n\n".encode()


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
