"""The OpenAPI document is whole: whatever it names is in it."""

import json
import re
from typing import Any

import httpx
import pytest

from services.gateway.app import make
from services.gateway.settings import GatewaySettings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def document() -> dict[str, Any]:
    _, app = make(GatewaySettings(_env_file=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        found: dict[str, Any] = (await client.get("/openapi.json")).json()
        return found


async def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred <= document["components"]["schemas"].keys()


async def test_every_event_of_a_stream_has_its_schema(document: dict[str, Any]) -> None:
    responses = [
        response for path in document["paths"].values() for o in path.values() for response in o["responses"].values()
    ]
    streams = [response for response in responses if "text/event-stream" in response.get("content", {})]
    named = {name for stream in streams for name in re.findall(r"\((\w+)\)", json.dumps(stream))}
    assert named == {"ChatChunk", "Delta", "Done", "Job", "ProblemDetails", "Sources"}
    assert named <= document["components"]["schemas"].keys()
