"""The pages of the web console, as `make console` builds them: one HTML page, and files whose names hold their hashes.

A path of the console is not a resource of the API. It serves a page to clients that ask for HTML, such as browsers,
and is not found for all others.
"""

import gzip
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

__all__ = ["CONTENT_SECURITY_POLICY", "STATIC", "VIEWS", "console_routes"]

STATIC: Final = Path(__file__).parent / "static"
"""What `make console` builds. It is committed, so that nobody needs Node to run the platform."""

VIEWS: Final = ("ask", "documents", "jobs", "keys", "operate", "sign-in")
"""The first part of each path that the page itself resolves."""

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Nothing inline, nothing from elsewhere, and no text that becomes markup: a document's text stays text."""

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

PAGE_HEADERS: Final = {
    **SECURITY_HEADERS,
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-cache",
    "Vary": "Accept, Accept-Encoding",
}

FILE_HEADERS: Final = {
    **SECURITY_HEADERS,
    "Cache-Control": "public, max-age=31536000, immutable",
    "Vary": "Accept-Encoding",
}
"""A file whose name holds its hash never changes."""

MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""Not those of the machine's own table, which may say anything of a suffix."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file in memory, plain and compressed."""

    media_type: str
    data: bytes
    compressed: bytes

    @classmethod
    def read(cls, path: Path) -> "_File":
        data = path.read_bytes()
        media_type = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(media_type, data, gzip.compress(data, 9, mtime=0))

    def response(self, request: Request, headers: dict[str, str], status: int = 200) -> Response:
        headers = {**headers, "Content-Type": self.media_type}
        if "gzip" in request.headers.get("accept-encoding", "") and len(self.compressed) < len(self.data):
            return Response(self.compressed, status, {**headers, "Content-Encoding": "gzip"})
        return Response(self.data, status, headers)


class _MistypedAddress(Route):
    """What a person types who looks for a page that is not there. The page says so.

    It is for nobody else: all other requests find what they would find without it.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            return Match.NONE, {}
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})


def console_routes(folder: Path = STATIC) -> list[BaseRoute]:
    """The routes of the console's page and of its files. Raises OSError when the build cannot be read."""
    page = _File.read(folder / "index.html")
    files = {path.name: _File.read(path) for path in (folder / "assets").iterdir()}
    icon = _File.read(folder / "favicon.svg")

    async def show_page(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        return page.response(request, PAGE_HEADERS)

    async def show_no_such_page(request: Request) -> Response:
        return page.response(request, PAGE_HEADERS, 404)

    async def show_file(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return file.response(request, FILE_HEADERS)

    async def show_icon(request: Request) -> Response:
        return icon.response(request, {**FILE_HEADERS, "Cache-Control": "public, max-age=86400"})

    views = [Route(f"/{view}{rest}", show_page) for view in VIEWS for rest in ("", "/{rest:path}")]
    return [
        Route("/", show_page, include_in_schema=False),
        *views,
        Route("/assets/{name}", show_file, include_in_schema=False),
        Route("/favicon.svg", show_icon, include_in_schema=False),
        _MistypedAddress("/{name}", show_no_such_page, include_in_schema=False),
    ]
