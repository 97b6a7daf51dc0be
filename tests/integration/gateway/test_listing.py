"""GET /v1/collections in pages, and what is counted in it."""

import httpx
import pytest

from tests.harness.processes import ServiceProcess


@pytest.fixture(scope="module")
def http(gateway: ServiceProcess) -> httpx.Client:
    return httpx.Client(base_url=gateway.url, trust_env=False, timeout=30)


def names(page: dict[str, object]) -> list[str]:
    collections = page["collections"]
    assert isinstance(collections, list)
    return [collection["name"] for collection in collections]


def test_pages_of_collections_follow_each_other(http: httpx.Client) -> None:
    wanted = [f"c{number}" for number in range(7)]
    for name in wanted:
        assert http.post("/v1/collections", json={"name": name}).status_code == 201
    assert names(http.get("/v1/collections").json()) == wanted
    found: list[str] = []
    after = ""
    while True:
        page = http.get("/v1/collections", params={"limit": 3, "after": after}).json()
        assert len(page["collections"]) <= 3
        found += names(page)
        if page["next"] is None:
            break
        after = page["next"]
    assert found == wanted
    assert http.get("/v1/collections", params={"limit": 7}).json()["next"] is None


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_has_a_bounded_size(http: httpx.Client, limit: int) -> None:
    assert http.get("/v1/collections", params={"limit": limit}).status_code in (400, 422)
