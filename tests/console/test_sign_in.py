"""Signing in with a key, and out again."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from oidc_provider_mock import User, run_server_in_thread
from playwright.sync_api import Browser, expect

from tests.console.conftest import ADMIN
from tests.harness.authenticated_gateway import authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.browser import DESKTOP, PHONE, Visit
from tests.harness.platform import Platform


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
def test_a_wrong_key_is_refused_in_words_and_a_good_one_begins_a_session(
    browser: Browser, platform: Platform, size: tuple[int, int]
) -> None:
    visit = Visit.begin(browser, platform.url, size=size)
    visit.expected.append("401")  # Chromium reports each in its console
    page = visit.open("/")
    expect(page.get_by_role("heading", name="Sign in to Sluice")).to_be_visible()
    visit.check_accessibility(page)
    visit.check_width(page)
    key = page.get_by_label("API key")
    key.fill("sk-sluice-wrong")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("key")
    key.fill(ADMIN)
    key.press("Enter")
    expect(page.get_by_role("textbox", name="Question")).to_be_focused()
    assert page.evaluate("() => document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to Sluice")).to_be_visible()
    visit.check()
    visit.context.close()


def test_a_page_that_does_not_exist_says_so(visit: Visit) -> None:
    page = visit.open("/ask/nowhere/at/all")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    expect(page).to_have_title(re.compile("Sluice"))
    page.get_by_role("link", name="Go to the first page").click()
    expect(page.get_by_role("textbox", name="Question")).to_be_visible()


def test_a_person_signs_in_by_openid(browser: Browser, tmp_path: Path) -> None:
    people = [User(sub="bo", claims={"name": "Bo Lind", "groups": ["staff"]}), User(sub="cy")]
    with ExitStack() as stack:
        server = stack.enter_context(run_server_in_thread(require_nonce=True, user_claims=people))
        broker = stack.enter_context(NatsServer(tmp_path / "nats"))
        settings = {
            "openid_issuer": f"http://localhost:{server.server_port}",
            "openid_client_id": "sluice",
            "openid_client_secret": "secret",
            "openid_name": "Example",
            "openid_grants": '[{"group": "staff", "tenant": "acme", "actions": ["query"]}]',
        }
        gateway = stack.enter_context(authenticated_gateway(broker, tmp_path, **settings))
        visit = Visit.begin(browser, gateway.process.url)
        visit.expected.append("401")
        page = visit.open("/ask/anything?collection=handbook")
        way = page.get_by_role("link", name="Sign in with Example")
        expect(way).to_have_attribute("href", "/sign-in/openid?to=%2Fask%2Fanything%3Fcollection%3Dhandbook")
        visit.check_accessibility(page)
        page.get_by_role("link", name="Sign in with Example").click()
        page.get_by_role("button", name="cy").click()
        expect(page.get_by_role("alert")).to_contain_text("may not use this Sluice")
        page.get_by_role("link", name="Sign in with Example").click()
        page.get_by_role("button", name="bo", exact=True).click()
        expect(page.get_by_role("textbox", name="Question")).to_be_visible()
        expect(page.get_by_text("Bo Lind")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in to Sluice")).to_be_visible()
        visit.check()
        visit.context.close()
