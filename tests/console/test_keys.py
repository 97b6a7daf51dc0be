"""API keys in the console: made, used, rotated and revoked."""

import re
from typing import Final

import httpx
from playwright.sync_api import Page, expect

from tests.harness.browser import Visit
from tests.harness.platform import Platform, eventually

HOSTILE: Final = "<img src=x onerror='window.__owned = 1'>"


def status_with(platform: Platform, secret: str) -> int:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.get(f"{platform.url}/v1/session", headers=headers, trust_env=False, timeout=30).status_code


def make(page: Page, name: str) -> str:
    """Make a key. Returns its secret."""
    page.get_by_role("button", name="Make a key").click()
    dialog = page.get_by_role("dialog", name="Make a key")
    dialog.get_by_role("textbox", name=re.compile("^Name")).fill(name)
    dialog.get_by_role("textbox", name=re.compile("^Collections")).fill("docs, wiki-*")
    dialog.get_by_role("button", name="Make the key").click()
    return stored_secret(page, "The key is made")


def stored_secret(page: Page, title: str) -> str:
    dialog = page.get_by_role("dialog", name=title)
    secret = dialog.get_by_label("The secret").inner_text()
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    dialog.get_by_label("I have stored it").check()
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_text(secret)).to_have_count(0)
    return secret


def test_a_key_is_made_used_rotated_and_revoked(visit: Visit, platform: Platform) -> None:
    page = visit.open("/keys")
    first = make(page, "ci robot")
    row = page.get_by_role("row", name="ci robot")
    expect(row).to_contain_text("docs, wiki-*")
    eventually(lambda: status_with(platform, first) == 200, "the key is in force")
    visit.check_accessibility(page)

    page.get_by_role("button", name="Rotate ci robot").click()
    page.get_by_label("The secret from before").select_option("ends at once")
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    second = stored_secret(page, "The new secret")
    eventually(lambda: status_with(platform, second) == 200, "the new secret is in force")
    eventually(lambda: status_with(platform, first) == 401, "the old secret is refused")

    page.get_by_role("button", name="Revoke ci robot").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    eventually(lambda: status_with(platform, second) == 401, "the revoked key is refused")
    page.get_by_label("State").select_option("revoked")
    expect(row).to_contain_text("revoked")


def test_a_key_with_a_hostile_name_is_text_and_a_refusal_is_said_in_words(visit: Visit) -> None:
    visit.expected.append("422")
    page = visit.open("/keys")
    make(page, HOSTILE)
    expect(page.get_by_role("row", name=HOSTILE)).to_be_visible()
    assert page.evaluate("() => window.__owned") is None
    page.get_by_role("button", name="Make a key").click()
    dialog = page.get_by_role("dialog", name="Make a key")
    dialog.get_by_role("textbox", name=re.compile("^Name")).fill("näme")
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Use letters without accents")
    visit.check_accessibility(page)


def test_keys_are_made_on_a_phone(phone: Visit) -> None:
    page = phone.open("/keys")
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_role("dialog", name="Make a key")).to_be_visible()
    phone.check_width(page)
    phone.check_accessibility(page)
    page.keyboard.press("Escape")
    make(page, "phone")
    expect(page.get_by_role("row", name="phone")).to_be_visible()
    phone.check_width(page)
    phone.check_accessibility(page)
