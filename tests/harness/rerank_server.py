"""A small rerank server that speaks real HTTP, in the forms of several APIs, and misbehaves on demand."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.harness.asgi_server import serve

__all__ = ["RerankServer", "overlap"]


def overlap(question: str, text: str) -> float:
    """The share of the question's words that the text has."""
    asked, there = (set(re.findall(r"\w+", one.lower())) for one in (question, text))
    return len(asked & there) / max(1, len(asked))


@dataclass
class RerankServer:
    """`failures` are the statuses that are answered first, in order; then `mode` decides.

    Modes: "answer" scores; "hang" never answers; "garbage" sends what is no JSON; "missing" leaves a document out;
    "twice" scores one twice; "logits" gives scores outside 0 to 1.
    """

    key: str = "secret-key"
    mode: str = "answer"
    failures: list[int] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: anyio.Event = field(default_factory=anyio.Event)
    url: str = ""

    @asynccontextmanager
    async def run(self) -> AsyncIterator["RerankServer"]:
        app = Starlette(
            routes=[
                Route("/v1/rerank", self.rerank, methods=["POST"]),
                Route("/v2/rerank", self.rerank, methods=["POST"]),
                Route("/rerank", self.rerank, methods=["POST"]),
            ]
        )
        async with serve(app) as url:
            self.url = url
            yield self

    async def rerank(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append({"path": request.url.path, **body})
        self.asked.set()
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"message": f"no such key: {request.headers.get('authorization')}"}, 401)
        if self.failures:
            return JSONResponse({"message": "no"}, self.failures.pop(0), headers={"retry-after": "0"})
        if self.mode == "hang":
            await anyio.sleep_forever()
        if self.mode == "garbage":
            return Response("not JSON")
        return self._answer(body)

    def _answer(self, body: dict[str, Any]) -> Response:
        texts = body.get("documents") or body["texts"]
        scores = [overlap(body["query"], text) * (9 if self.mode == "logits" else 1) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: -scores[index])
        if self.mode == "missing":
            order = order[1:]
        if self.mode == "twice":
            order[0] = order[-1]
        if "texts" in body:
            return JSONResponse([{"index": i, "score": scores[i]} for i in order])
        results = [{"index": i, "relevance_score": scores[i], "document": {"text": texts[i]}} for i in order]
        return Response(json.dumps({"id": "r", "results": results, "usage": {"total_tokens": 7}}))
