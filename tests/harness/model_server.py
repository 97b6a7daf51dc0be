"""A small OpenAI-compatible server that speaks real HTTP and misbehaves on demand."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.harness.asgi_server import serve

__all__ = ["WORDS", "Failure", "ModelServer"]

WORDS = ("The ", "answer ", "is ", "42 ", "[1].")
MISBEHAVING = {"break", "end", "stall", "ping", "endless", "error", "filter", "length"}
JSON_WORDS = ('{"value"', ": 42}")
TOOL_PIECES = (
    {"index": 0, "id": "abc", "type": "function", "function": {"name": "look", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"at":'}},
    {"index": 0, "function": {"arguments": ' "sky"}'}},
)


@dataclass(frozen=True)
class Failure:
    """An answer that is an error."""

    status: int
    message: str = "no"
    code: str | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"retry-after-ms": "1"})


@dataclass
class ModelServer:
    """What it does next: `failures` are answered first, in order, then as many connections as `drops` are cut before
    the first word, then `mode` decides.

    Modes: "answer" streams WORDS; "break" cuts the connection after two words; "end" ends the stream after two
    words; "hang" never answers; "stall" stops after two words; "ping" sends comments from then on; "wait" does so
    before the first word; "endless" writes until the reader leaves; "error" sends an error event after two words;
    "garbage" sends what is no JSON; "filter" ends by content filter; "empty" ends without a word; "think" reasons
    before WORDS; "logprobs" tells one for each word.

    A request with tools is answered by a call of the first one, one with a response_format or structured_outputs by
    JSON, one with continue_final_message by what is left of WORDS after its last message.
    """

    key: str = "sk-secret"
    mode: str = "answer"
    failures: list[int | Failure] = field(default_factory=list)
    drops: int = 0
    models: tuple[str, ...] = ("tiny",)
    max_model_len: int | None = None
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
                Route("/v1/completions", self.complete, methods=["POST"]),
            ]
        )
        async with serve(app) as url:
            self.base_url = f"{url}/v1"
            yield self

    async def list_models(self, request: Request) -> Response:
        if refusal := self.refuse(request):
            return refusal
        return JSONResponse({"object": "list", "data": [self.model_object(name) for name in self.models]})

    async def complete(self, request: Request) -> Response:
        if refusal := self.refuse(request):
            return refusal
        body = await request.json()
        self.requests.append(body)
        assert request.client is not None
        self.connections.add(request.client.port)
        self.asked.set()
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, int):
                failure = Failure(failure, f"status {failure} for key {self.key}")
            return error(failure.status, failure.message, failure.headers, failure.code)
        if self.mode == "hang":
            await self.wait_for_the_reader_to_leave(request)
        return StreamingResponse(self.stream(body), media_type="text/event-stream")

    def model_object(self, name: str) -> dict[str, Any]:
        known = {"id": name, "object": "model", "created": 0, "owned_by": "test"}
        return known if self.max_model_len is None else {**known, "max_model_len": self.max_model_len}

    def refuse(self, request: Request) -> Response | None:
        if request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        return error(401, f"Incorrect API key provided: {request.headers.get('authorization')}")

    async def wait_for_the_reader_to_leave(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        self.serving += 1
        self.most_serving = max(self.serving, self.most_serving)
        try:
            async for part in self.parts(body):
                yield part
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            self.disconnected.set()
            raise
        finally:
            self.serving -= 1

    async def parts(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        if self.drops:
            self.drops -= 1
            yield b": soon\n\n"
            raise ConnectionResetError("dropped on purpose")
        if self.mode == "garbage":
            yield b"data: {nonsense\n\n"
            return
        if self.mode == "wait":
            async for part in pings():
                yield part
        for number, piece in enumerate(self.pieces(body)):
            if number == 2 and self.mode in MISBEHAVING:
                async for part in self.misbehave():
                    yield part
                return
            yield event({"choices": [{"index": 0, "finish_reason": None, **piece}]})
            await anyio.lowlevel.checkpoint()
        yield chunk({}, finish="tool_calls" if body.get("tools") else "stop")
        if self.usage:
            usage = {"prompt_tokens": 11, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}}
            yield event({"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def pieces(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The members of each chunk's choice."""
        if body.get("tools"):
            yield from ({"delta": {"tool_calls": [piece]}} for piece in TOOL_PIECES)
            return
        words: tuple[str, ...] = () if self.mode == "empty" else WORDS
        if body.get("response_format") or body.get("structured_outputs"):
            words = JSON_WORDS
        if body.get("continue_final_message"):
            words = ("".join(WORDS).removeprefix(body["messages"][-1]["content"]),)
        if self.mode == "think":
            yield {"delta": {"role": "assistant", "content": "", "reasoning_content": "Hm."}}
        for word in words:
            if "prompt" in body:
                plain = {"tokens": [word], "token_logprobs": [-0.5], "top_logprobs": [{word: -0.5}]}
                yield {"text": word, "logprobs": plain if self.mode == "logprobs" else None}
                continue
            alternative = {"token": word, "logprob": -0.5, "bytes": None}
            told = {"content": [{**alternative, "top_logprobs": [alternative]}]} if self.mode == "logprobs" else None
            yield {"delta": {"content": word}, "logprobs": told}

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
            case "ping":
                async for part in pings():
                    yield part
            case "endless":
                while True:
                    yield chunk({"content": "more "})
                    await anyio.sleep(0.001)


async def pings() -> AsyncIterator[bytes]:
    """Comments, which keep a connection alive and say nothing."""
    while True:
        yield b": ping\n\n"
        await anyio.sleep(0.001)


def error(status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "code": code}}, status_code=status, headers=headers)


def event(payload: dict[str, Any]) -> bytes:
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 0, "model": "tiny", **payload}
    return f"data: {json.dumps(whole)}\n\n".encode()


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
