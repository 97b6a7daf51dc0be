"""The part of the gateway's OpenAPI document that the web console's types are made of.

`python -m tests.harness.console` writes it to console/openapi.json, as `make console` does. Prose is left out, so that
only a change of the API changes it.
"""

import json
from typing import Any, Final

from fastapi import FastAPI

from services.gateway.app import make
from services.gateway.settings import GatewaySettings
from tests.harness.paths import ROOT

__all__ = ["OPENAPI", "SOURCES", "openapi_text"]

SOURCES: Final = ROOT / "console"
OPENAPI: Final = SOURCES / "openapi.json"

PROSE: Final = frozenset({"title", "description", "summary", "examples", "example", "tags"})
LEFT_OUT: Final = ("/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/files", "/v1/batches", "/v1/rerank", "/v2/")
"""Faces of the API for other clients."""


def openapi_text() -> str:
    """The document as it is now, in a canonical form."""
    _, asgi = make(GatewaySettings(console=False))
    document = _app(asgi).openapi()
    paths = {path: item for path, item in document["paths"].items() if not path.startswith(LEFT_OUT)}
    found = {
        "openapi": document["openapi"],
        "info": {"title": "Sluice", "version": "1"},
        "paths": paths,
        "components": {"schemas": document["components"]["schemas"]},
    }
    return json.dumps(_bare(found), sort_keys=True, indent=1) + "\n"


def _app(asgi: Any) -> FastAPI:
    """The application within its middleware."""
    while not isinstance(asgi, FastAPI):
        asgi = asgi._app
    return asgi


def _bare(node: Any, *, named: bool = False) -> Any:
    """Without prose; the keys of an object of `named` things are their names."""
    if isinstance(node, list):
        return [_bare(member) for member in node]
    if not isinstance(node, dict):
        return node
    if not named and node.keys() >= {"openapi", "info"}:
        return {key: value if key == "info" else _bare(value) for key, value in node.items()}
    return {
        key: _bare(value, named=key in ("properties", "paths", "schemas", "responses", "content"))
        for key, value in node.items()
        if named or key not in PROSE or (key == "description" and "content" in node)
    }


if __name__ == "__main__":
    OPENAPI.write_text(openapi_text())
