"""The empty pipeline as four FastAPI services that call each other over HTTP, on connections that they keep.

`python -m benchmarks.peers.wired SERVICE FD`, where SERVICE is embed, retrieve, generate or gateway, and FD a listening
socket. The gateway finds the others in EMBED_URL, RETRIEVE_URL and GENERATE_URL; CLIENT is httpx or aiohttp.
"""

import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks.peers.constants import EMBEDDING, PASSAGES, TOKENS, event, pieces

CONNECTIONS = 1024


class Asked(BaseModel):
    question: str
    collection: str
    stream: bool = False


class Embedded(BaseModel):
    embedding: list[float]


class Search(BaseModel):
    question: str
    embedding: list[float]
    top_k: int = 5


class Passage(BaseModel):
    document_id: str
    document: str
    position: int
    text: str
    score: float


class Found(BaseModel):
    passages: list[Passage]


class Prompt(BaseModel):
    question: str
    passages: list[Passage]
    stream: bool


class Source(Passage):
    index: int


class Written(BaseModel):
    text: str
    completion_tokens: int


class Answer(BaseModel):
    id: str
    answer: str
    sources: list[Source]
    usage: dict[str, int]


embed, retrieve, generate = FastAPI(), FastAPI(), FastAPI()


@embed.post("/")
async def embed_question(_: Asked) -> Embedded:
    return Embedded(embedding=EMBEDDING)


@retrieve.post("/")
async def retrieve_passages(_: Search) -> Found:
    return Found(passages=[Passage(**passage) for passage in PASSAGES])


@generate.post("/", response_model=Written)
async def generate_answer(prompt: Prompt) -> Any:
    if not prompt.stream:
        return Written(text="".join(pieces(streamed=False)), completion_tokens=len(TOKENS))

    async def written() -> AsyncIterator[bytes]:
        for text in pieces(streamed=True):
            yield event("delta", {"text": text})

    return StreamingResponse(written(), media_type="text/event-stream")


class Client(Protocol):
    """A client of the other services."""

    async def post(self, url: str, body: bytes) -> bytes: ...

    def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]: ...


JSON = {"Content-Type": "application/json"}


class Httpx:
    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        self._client = httpx.AsyncClient(limits=limits, timeout=60, trust_env=False)

    async def post(self, url: str, body: bytes) -> bytes:
        response = await self._client.post(url, content=body, headers=JSON)
        return response.raise_for_status().content

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        async with self._client.stream("POST", url, content=body, headers=JSON) as response:
            async for data in response.raise_for_status().aiter_raw():
                yield data


class Aiohttp:
    def __init__(self) -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, raise_for_status=True)

    async def post(self, url: str, body: bytes) -> bytes:
        async with self._session.post(url, data=body, headers=JSON) as response:
            return await response.read()

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        async with self._session.post(url, data=body, headers=JSON) as response:
            async for data in response.content.iter_any():
                yield data


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.client = {"httpx": Httpx, "aiohttp": Aiohttp}[os.environ["CLIENT"]]()
    app.state.urls = [os.environ[f"{name}_URL"] for name in ("EMBED", "RETRIEVE", "GENERATE")]
    yield


gateway = FastAPI(lifespan=lifespan)


@gateway.post("/v1/query", response_model=Answer)
async def ask(asked: Asked, request: Request) -> Any:
    client: Client = request.app.state.client
    embed_url, retrieve_url, generate_url = request.app.state.urls
    body = await client.post(embed_url, asked.model_dump_json().encode())
    embedding = Embedded.model_validate_json(body).embedding
    search = Search(question=asked.question, embedding=embedding)
    found = Found.model_validate_json(await client.post(retrieve_url, search.model_dump_json().encode()))
    prompt = Prompt(question=asked.question, passages=found.passages, stream=asked.stream).model_dump_json().encode()
    query_id = uuid.uuid4().hex
    sources = [Source(index=number, **dict(passage)) for number, passage in enumerate(found.passages, start=1)]
    if asked.stream:
        return StreamingResponse(
            _told(query_id, sources, client.stream(generate_url, prompt)), media_type="text/event-stream"
        )
    written = Written.model_validate_json(await client.post(generate_url, prompt))
    usage = {"completion_tokens": written.completion_tokens}
    return Answer(id=query_id, answer=written.text, sources=sources, usage=usage)


async def _told(query_id: str, sources: list[Source], written: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The generator's events as they come, between two of the gateway's own."""
    yield event("sources", {"id": query_id, "sources": [source.model_dump() for source in sources]})
    async for data in written:
        yield data
    yield event("done", {"id": query_id, "usage": {"completion_tokens": len(TOKENS)}})


def main() -> None:
    app = {"embed": embed, "retrieve": retrieve, "generate": generate, "gateway": gateway}[sys.argv[1]]
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=2048)
    # As a socket: uvicorn takes a bare descriptor for a Unix socket, and responses then wait for Nagle's algorithm.
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[2]))])


if __name__ == "__main__":
    main()
