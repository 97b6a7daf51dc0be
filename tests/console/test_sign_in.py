"""Signing in with a key, and out again."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.console.conftest import ADMIN
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
