"""The response that streams an artifact."""

import mimetypes

from fastapi.responses import StreamingResponse

from shared.stores.artifacts import Artifacts

__all__ = ["download"]


async def download(artifacts: Artifacts, tenant: str, name: str) -> StreamingResponse:
    """Raises Problem NOT_FOUND or INVALID_NAME."""
    size = await artifacts.size(tenant, name)
    chunks = await artifacts.chunks(tenant, name)
    file = name.rpartition("/")[2]
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{file}"',
        # What a job has made is data, never a page of this site.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(chunks, headers=headers, media_type=_media_type(file))


def _media_type(file: str) -> str:
    if file.endswith(".jsonl"):
        return "application/x-ndjson"
    guessed = mimetypes.guess_type(file)[0] or "application/octet-stream"
    return guessed if guessed.startswith(("text/", "image/", "application/")) else "application/octet-stream"
