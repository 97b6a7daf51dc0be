"""The empty pipeline on Ray Serve: four composed deployments. `python -m benchmarks.peers.ray_serve PORT FOLDER`

With the settings that Ray's documentation names for throughput (RAY_SERVE_THROUGHPUT_OPTIMIZED: gRPC between replicas,
user code on the replica's own event loop, buffered logs; RAY_SERVE_ENABLE_HA_PROXY: HAProxy in front), which whoever
starts this sets in the environment; without access logs, dashboard and usage reports, and with room for all queries.
"""

import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from benchmarks.peers.constants import EMBEDDING, PASSAGES, TOKENS, event, pieces
from benchmarks.peers.ray_process import serve_until_stopped

ROOM = {"max_ongoing_requests": 1024, "ray_actor_options": {"num_cpus": 0}}


@serve.deployment(**ROOM)
class Embed:
    async def __call__(self, question: str) -> list[float]:  # noqa: ARG002
        return EMBEDDING


@serve.deployment(**ROOM)
class Retrieve:
    async def __call__(self, question: str, embedding: list[float]) -> list[dict[str, Any]]:  # noqa: ARG002
        return PASSAGES


@serve.deployment(**ROOM)
class Generate:
    async def whole(self, question: str, passages: list[dict[str, Any]]) -> str:  # noqa: ARG002
        return "".join(pieces(streamed=False))

    async def streamed(self, question: str, passages: list[dict[str, Any]]) -> AsyncIterator[str]:  # noqa: ARG002
        for text in pieces(streamed=True):
            yield text


@serve.deployment(**ROOM)
class Gateway:
    def __init__(self, embed: DeploymentHandle, retrieve: DeploymentHandle, generate: DeploymentHandle) -> None:
        self._embed = embed
        self._retrieve = retrieve
        self._whole = generate.whole
        self._streamed = generate.options(stream=True).streamed

    async def __call__(self, request: Request) -> Response:
        asked = await request.json()
        question = asked["question"]
        embedding = await self._embed.remote(question)
        passages = await self._retrieve.remote(question, embedding)
        query_id = uuid.uuid4().hex
        sources = [{"index": number, **passage} for number, passage in enumerate(passages, start=1)]
        if asked["stream"]:
            told = self._told(query_id, sources, self._streamed.remote(question, passages))
            return StreamingResponse(told, media_type="text/event-stream")
        text = await self._whole.remote(question, passages)
        usage = {"completion_tokens": len(TOKENS)}
        return JSONResponse({"id": query_id, "answer": text, "sources": sources, "usage": usage})

    async def _told(
        self, query_id: str, sources: list[dict[str, Any]], written: AsyncIterator[str]
    ) -> AsyncIterator[bytes]:
        yield event("sources", {"id": query_id, "sources": sources})
        async for text in written:
            yield event("delta", {"text": text})
        yield event("done", {"id": query_id, "usage": {"completion_tokens": len(TOKENS)}})


if __name__ == "__main__":
    port, folder = sys.argv[1:]
    serve_until_stopped(Gateway.bind(Embed.bind(), Retrieve.bind(), Generate.bind()), int(port), folder)
