"""Signing in by OpenID, with a provider as people run one."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from oidc_provider_mock import User, run_server_in_thread

from tests.harness.authenticated_gateway import ADMIN, AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer

CONSOLE = {"X-Sluice-Console": "1"}

PEOPLE = (
    User(sub="ada", claims={"name": "Ada Osei", "groups": ["admins", "staff"]}),
    User(sub="bo", claims={"name": "Bo Lind", "groups": ["staff"]}),
    User(sub="cy", claims={"name": "Cy Varga", "groups": ["guests"]}),
    User(sub="di", claims={"name": "Di Park", "groups": ["staff", *(f"group-{n:03}-{'x' * 40}" for n in range(100))]}),
)

GRANTS = """[
    {"group": "admins", "actions": ["admin"]},
    {"group": "staff", "tenant": "acme", "actions": ["query", "read"], "collections": ["handbook*"]}
]"""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with run_server_in_thread(require_nonce=True, user_claims=PEOPLE) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture(scope="module")
def gateway(
    broker: NatsServer, provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AuthenticatedGateway]:
    settings = {
        "openid_issuer": provider,
        "openid_client_id": "sluice",
        "openid_client_secret": "secret",
        "openid_grants": GRANTS,
        "openid_name": "Example",
    }
    with authenticated_gateway(broker, tmp_path_factory.mktemp("gateway"), **settings) as running:
        yield running


@pytest.fixture
def browser(gateway: AuthenticatedGateway) -> Iterator[httpx.Client]:
    with gateway.client(None) as client:
        yield client


def authorized(browser: httpx.Client, person: str, **parameters: str) -> str:
    """Where the provider sends the browser back to, once the person has signed in there."""
    begun = browser.get("/sign-in/openid", params=parameters)
    assert begun.status_code == 303, begun.text
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    back = httpx.post(begun.headers["location"], data={"sub": person}, trust_env=False)
    assert back.status_code == 302, back.text
    return str(back.headers["location"])


def sign_in(browser: httpx.Client, person: str, **parameters: str) -> httpx.Response:
    return browser.get(authorized(browser, person, **parameters))


def test_a_person_of_a_group_may_do_what_its_grant_says(browser: httpx.Client) -> None:
    ended = sign_in(browser, "bo", to="/ask/abc")
    assert (ended.status_code, ended.headers["location"]) == (303, "/ask/abc")
    session = browser.get("/v1/session").json()
    assert (session["name"], session["tenant"], session["key"]) == ("Bo Lind", "acme", "openid:bo")
    assert (session["actions"], session["collections"]) == (["query", "read"], ["handbook*"])
    assert browser.get("/v1/collections").status_code == 200
    refused = browser.post("/v1/collections", json={"name": "handbook"}, headers=CONSOLE)
    assert refused.status_code == 403
    assert refused.json()["detail"].startswith("Your account lacks the action")


def test_the_first_grant_that_fits_counts(browser: httpx.Client) -> None:
    sign_in(browser, "ada")
    session = browser.get("/v1/session").json()
    assert (session["tenant"], "admin" in session["actions"]) == ("default", True)
    made = browser.post("/v1/keys", json={"name": "of Ada", "tenant": "acme", "actions": ["query"]}, headers=CONSOLE)
    assert made.status_code == 201, made.text
    assert made.json()["key"]["created_by"] == "Ada Osei"


def test_a_write_of_a_person_needs_the_header_of_the_console(browser: httpx.Client) -> None:
    sign_in(browser, "ada")
    assert browser.post("/v1/collections", json={"name": "forged"}).status_code == 403


def test_who_is_in_no_group_with_a_grant_does_not_get_in(browser: httpx.Client) -> None:
    assert sign_in(browser, "cy").headers["location"] == "/sign-in?failed=no-grant"
    assert browser.get("/v1/session").status_code == 401


def test_more_groups_than_a_cookie_holds_are_said_to_be_too_many(browser: httpx.Client) -> None:
    assert sign_in(browser, "di").headers["location"] == "/sign-in?failed=too-many-groups"
    assert browser.get("/v1/session").status_code == 401


def test_a_code_is_taken_once(browser: httpx.Client) -> None:
    back = authorized(browser, "bo")
    kept = dict(browser.cookies)
    assert browser.get(back).headers["location"] == "/"
    browser.cookies.clear()
    browser.cookies.update(kept)
    assert browser.get(back).headers["location"] == "/sign-in?failed=provider"
    assert browser.get("/v1/session").status_code == 401


def test_another_browser_cannot_be_given_somebodys_sign_in(
    gateway: AuthenticatedGateway, browser: httpx.Client
) -> None:
    back = authorized(browser, "ada")
    with gateway.client(None) as other:
        assert other.get(back).headers["location"] == "/sign-in?failed=expired"
        authorized(other, "bo")
        assert other.get(back).headers["location"] == "/sign-in?failed=expired"
        assert other.get("/v1/session").status_code == 401


def test_a_refusal_of_the_provider_is_said(browser: httpx.Client) -> None:
    begun = browser.get("/sign-in/openid")
    (state,) = parse_qs(urlsplit(begun.headers["location"]).query)["state"]
    back = browser.get("/sign-in/openid/callback", params={"error": "access_denied", "state": state})
    assert back.headers["location"] == "/sign-in?failed=refused"


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\r\nb"])
def test_no_sign_in_ends_at_another_site(browser: httpx.Client, to: str) -> None:
    assert sign_in(browser, "bo", to=to).headers["location"] == "/"


def test_a_path_that_is_too_long_for_a_cookie_is_not_returned_to(browser: httpx.Client) -> None:
    begun = browser.get("/sign-in/openid", params={"to": "/jobs?collection=" + "a" * 5000})
    assert len(begun.headers["set-cookie"]) < 4096  # browsers drop longer ones, and the sign-in would be lost
    assert sign_in(browser, "bo", to="/" + "\u00e9" * 500).headers["location"] == "/"


def test_a_session_ends_with_a_sign_out(browser: httpx.Client) -> None:
    sign_in(browser, "ada")
    assert browser.delete("/v1/session", headers=CONSOLE).status_code == 204
    assert browser.get("/v1/session").status_code == 401


def test_a_cookie_of_the_sign_in_is_no_session(browser: httpx.Client) -> None:
    browser.get("/sign-in/openid")
    (begun,) = (value for name, value in browser.cookies.items() if name.startswith("sluice_sign_in"))
    browser.post("/v1/session", headers={"Authorization": f"Bearer {ADMIN}", **CONSOLE})
    (session,) = (name for name in browser.cookies if name.startswith("sluice_session"))
    browser.cookies.clear()
    assert browser.get("/v1/session", headers={"Cookie": f"{session}={begun}"}).status_code == 401


def test_the_page_learns_the_name_of_the_provider_before_anybody_has_signed_in(browser: httpx.Client) -> None:
    assert browser.get("/sign-in/options").json() == {"openid": "Example"}
