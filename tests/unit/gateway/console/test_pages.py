"""The console's pages come with headers that let nothing inline and nothing foreign run."""

import re
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.gateway.console.pages import STATIC, console_routes

HTML = {"accept": "text/html,*/*;q=0.8"}


async def _get(path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(Starlette(routes=console_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://sluice") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("path", ["/", "/ask", "/ask/abc", "/documents/docs/0a", "/sign-in"])
async def test_a_browser_gets_the_page_with_a_strict_policy(path: str) -> None:
    response = await _get(path, **HTML)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"


async def test_other_clients_find_no_page() -> None:
    assert (await _get("/", accept="application/json")).status_code == 404


@pytest.mark.parametrize("path", ["/Documents", "/nonsense"])
async def test_a_mistyped_address_is_not_found_in_words_and_by_people_alone(path: str) -> None:
    response = await _get(path, **HTML)
    assert response.status_code == 404
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "content-security-policy" in response.headers
    assert (await _get(path, accept="application/json")).headers["content-type"] != "text/html; charset=utf-8"
    assert (await _get(f"/v1{path}", **HTML)).headers["content-type"] != "text/html; charset=utf-8"


def _assets() -> list[Any]:
    return sorted(path.name for path in (STATIC / "assets").iterdir())


@pytest.mark.parametrize("name", _assets())
async def test_files_never_change_and_have_their_types(name: str) -> None:
    response = await _get(f"/assets/{name}")
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["content-type"] in ("text/javascript; charset=utf-8", "text/css; charset=utf-8")
    assert response.headers["content-encoding"] == "gzip"
    assert response.content == (STATIC / "assets" / name).read_bytes()


@pytest.mark.parametrize("path", ["/assets/missing.js", "/assets/..%2findex.html", "/assets/build.json"])
async def test_nothing_else_is_served(path: str) -> None:
    assert (await _get(path)).status_code == 404


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert "<style" not in page
    assert "style=" not in page
    assert re.findall(r'(?:src|href)="(?!/)', page) == []
