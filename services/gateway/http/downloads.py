"""The response that streams an artifact."""

import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi.responses import StreamingResponse

from shared.stores.artifacts import Artifacts

__all__ = ["download"]


async def download(artifacts: Artifacts, tenant: str, name: str) -> StreamingResponse:
    """The bytes of an artifact. Where they break off the connection is closed before the length that was promised.

    Raises Problem NOT_FOUND or INVALID_NAME, and nats errors.
    """
    size, chunks = await artifacts.open(tenant, name)
    # Before the response begins: what the broker refuses is a problem, and not a response without a body.
    first = await anext(chunks, b"")
    file = name.rpartition("/")[2]
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{file}"',
        # What a job has made is data, never a page of this site.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(_all(first, chunks), headers=headers, media_type=_media_type(file))


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        if first:
            yield first
        async for chunk in rest:
            yield chunk


def _media_type(file: str) -> str:
    if file.endswith(".jsonl"):
        return "application/x-ndjson"
    guessed = mimetypes.guess_type(file)[0] or "application/octet-stream"
    return guessed if guessed.startswith(("text/", "image/", "application/")) else "application/octet-stream"
