"""The console's sign-in: the key in a cookie, and who may use that."""

from collections.abc import Iterator

import httpx
import pytest

from tests.harness.authenticated_gateway import ADMIN, AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer

CONSOLE = {"X-Sluice-Console": "1"}


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    with authenticated_gateway(broker, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def browser(gateway: AuthenticatedGateway) -> Iterator[httpx.Client]:
    """A client that has signed in with the admin key, and keeps only the cookie."""
    with gateway.client(None) as client:
        signed_in = client.post("/v1/session", headers={"Authorization": f"Bearer {ADMIN}", **CONSOLE})
        assert signed_in.status_code == 200, signed_in.text
        cookie = signed_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert ADMIN not in cookie
        yield client


def test_the_session_tells_what_the_key_may_do(browser: httpx.Client) -> None:
    found = browser.get("/v1/session").json()
    assert found["keys_required"] is True
    assert "admin" in found["actions"]


def test_a_wrong_key_begins_no_session(gateway: AuthenticatedGateway) -> None:
    with gateway.client("sk-sluice-wrong") as client:
        refused = client.post("/v1/session", headers=CONSOLE)
    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers


def test_a_write_needs_the_header_of_the_console(browser: httpx.Client) -> None:
    assert browser.post("/v1/collections", json={"name": "forged"}).status_code == 403
    assert browser.post("/v1/collections", json={"name": "made"}, headers=CONSOLE).status_code == 201


def test_a_page_of_another_origin_may_not_write_with_the_session(browser: httpx.Client) -> None:
    for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}):
        refused = browser.post("/v1/collections", json={"name": "forged"}, headers={**CONSOLE, **foreign})
        assert refused.status_code == 403, foreign


def test_a_changed_cookie_is_none(browser: httpx.Client) -> None:
    (name, value), *_ = browser.cookies.items()
    browser.cookies.clear()
    assert browser.get("/v1/session", headers={"Cookie": f"{name}={value[:-2]}xx"}).status_code == 401


def test_signing_out_takes_the_cookie_away(browser: httpx.Client) -> None:
    assert browser.delete("/v1/session", headers=CONSOLE).status_code == 204
    assert browser.get("/v1/session").status_code == 401


def test_a_revoked_key_ends_its_sessions(gateway: AuthenticatedGateway) -> None:
    issued = gateway.issue("acme", "query")
    gateway.until(gateway.client(issued["secret"]), lambda status: status != 401)
    with gateway.client(None) as client:
        headers = {"Authorization": f"Bearer {issued['secret']}", **CONSOLE}
        assert client.post("/v1/session", headers=headers).status_code == 200
        assert client.get("/v1/session").json()["actions"] == ["query"]
        gateway.admin.delete(f"/v1/keys/{issued['key']['id']}")
        gateway.until(client, lambda status: status == 401)


@pytest.mark.parametrize("other", ['prefs={"dark":1,"of":[2]}', "a b=c", "name=Zo\u00eb", "x", '"'])
def test_cookies_of_other_programs_on_the_machine_do_not_end_a_session(browser: httpx.Client, other: str) -> None:
    ((name, value),) = browser.cookies.items()
    browser.cookies.clear()
    for cookies in (f"{other}; {name}={value}", f"{name}={value}; {other}"):
        assert browser.get("/v1/session", headers=[(b"cookie", cookies.encode())]).status_code == 200, cookies
