"""Usage in the console: what was answered, for whom, and what it cost."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from sluice import Client
from tests.console.conftest import ADMIN
from tests.harness.browser import DESKTOP, Visit
from tests.harness.platform import Platform
from tests.harness.processes import ServiceProcess


@pytest.fixture(scope="module")
def embedder(platform: Platform, client: Client) -> str:
    """The model of two answered requests for embeddings."""
    (model,) = [one.id for one in client.models() if one.sluice and one.sluice.stage == "embed"]
    headers = {"Authorization": f"Bearer {ADMIN}"}
    for _ in range(2):
        body = {"model": model, "input": ["The blue lamp of the harbour."]}
        found = httpx.post(f"{platform.url}/v1/embeddings", json=body, headers=headers, trust_env=False, timeout=60)
        assert found.status_code == 200, found.text
    return model


@pytest.fixture
def priced(platform: Platform, embedder: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A gateway beside the platform's, which knows a price."""
    broker = (platform.data / "nats.url").read_text().strip()
    prices = f'{{"{embedder}": {{"prompt": 1000000}}}}'
    settings = {"nats_url": broker, "admin_key": ADMIN, "prices": prices, "currency": "EUR"}
    with ServiceProcess("services.gateway", tmp_path, **settings) as gateway:
        yield gateway


def table(page: Page) -> Locator:
    return page.get_by_role("group", name="Usage, a table")


def sum_by(page: Page, dimension: str) -> None:
    page.get_by_role("combobox", name="Sum by").select_option(dimension)


def test_usage_is_summed_by_day_model_tenant_and_key(visit: Visit, client: Client, embedder: str) -> None:
    page = visit.open("/operate/usage")
    expect(page.get_by_role("img", name=re.compile("^Tokens a day"))).to_be_visible()
    # A run that lasts over midnight has two days.
    newest = max(client.usage(tenant="*").rows, key=lambda row: row.day or "")
    row = table(page).get_by_role("row", name=re.compile(f"^{newest.day}"))
    expect(row.get_by_role("cell").first).to_have_text(f"{newest.requests:,}")
    visit.check_accessibility(page)
    (known,) = [row for row in client.usage(by=["model"], tenant="*").rows if row.model == embedder]
    sum_by(page, "model")
    row = table(page).get_by_role("row", name=re.compile(re.escape(embedder)))
    expect(row.get_by_role("cell").nth(1)).to_have_text(f"{known.prompt_tokens:,}")
    sum_by(page, "tenant")
    expect(table(page).get_by_role("row", name=re.compile("^default"))).to_be_visible()
    sum_by(page, "key")
    expect(table(page).get_by_role("row", name=re.compile("^admin"))).to_be_visible()
    page.get_by_role("combobox", name="Range").select_option("7 days")
    expect(table(page).get_by_role("row", name=re.compile("^admin"))).to_be_visible()


def test_without_prices_the_page_says_how_to_set_them(visit: Visit, embedder: str) -> None:
    page = visit.open("/operate/usage")
    expect(page.get_by_text("SLUICE_PRICES=")).to_be_visible()
    expect(table(page).get_by_role("columnheader", name=re.compile("Cost"))).to_have_count(0)


def test_with_prices_the_cost_stands_beside_the_tokens(browser: Browser, priced: ServiceProcess, embedder: str) -> None:
    visit = Visit.begin(browser, priced.url, size=DESKTOP)
    visit.sign_in(ADMIN)
    page = visit.open("/operate/usage")
    sum_by(page, "model")
    expect(table(page).get_by_role("columnheader", name="Cost, EUR")).to_be_visible()
    row = table(page).get_by_role("row", name=re.compile(re.escape(embedder)))
    tokens = row.get_by_role("cell").nth(1).inner_text()
    expect(row.get_by_role("cell").last).to_have_text(f"{tokens}.0000")
    expect(page.get_by_text("SLUICE_PRICES=")).to_have_count(0)
    visit.check_accessibility(page)
    visit.check()
    visit.context.close()


def test_a_tenant_without_answers_sees_that_nothing_was_used_and_nothing_of_others(
    browser: Browser, platform: Platform, client: Client, embedder: str
) -> None:
    key = client.create_key("reader", ["read"], tenant="idle").secret
    visit = Visit.begin(browser, platform.url, size=DESKTOP)
    visit.sign_in(key)
    page = visit.open("/operate/usage")
    expect(page.get_by_text("Nothing was answered in the last 30 days")).to_be_visible()
    expect(page.get_by_text("SLUICE_PRICES=")).to_be_visible()
    expect(page.get_by_role("combobox", name="Tenants")).to_have_count(0)
    visit.check_accessibility(page)
    visit.check()
    visit.context.close()


def test_usage_fits_a_phone(phone: Visit, embedder: str) -> None:
    page = phone.open("/operate/usage")
    sum_by(page, "model")
    expect(table(page).get_by_role("row", name=re.compile(re.escape(embedder)))).to_be_visible()
    phone.check_width(page)
    phone.check_accessibility(page)
