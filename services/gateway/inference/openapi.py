"""Parameters of endpoints that take the request itself, as the API's document has them."""

from typing import Any, Final

__all__ = ["JSON_LENGTH_PARAMETER", "MODEL", "VERSION_PARAMETER"]

MODEL: Final[dict[str, Any]] = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
VERSION_PARAMETER: Final[dict[str, Any]] = MODEL | {"name": "version"}
JSON_LENGTH_PARAMETER: Final[dict[str, Any]] = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "The bytes of JSON at the beginning of the body, where binary tensors follow them.",
    "schema": {"type": "integer", "minimum": 0},
}
