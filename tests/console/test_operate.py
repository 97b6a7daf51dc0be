"""Operating the platform in the console: where queries wait, traces, and the share of a canary."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from sluice import Client, SluiceError
from tests.console.conftest import ADMIN
from tests.harness.browser import DESKTOP, Visit
from tests.harness.platform import Platform
from tests.harness.processes import ServiceProcess

TEXTS = {"lamp.md": "# The lamp\n\nThe blue lamp of the harbour was built by Ottilie Brandt in 1911."}


@pytest.fixture(scope="module")
def collection(client: Client) -> str:
    client.create_collection("operating")
    assert client.wait(client.add_texts("operating", TEXTS).id, timeout=120).state == "succeeded"
    return "operating"


@pytest.fixture
def canary(platform: Platform, client: Client, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A second generator; afterwards no route is left."""
    broker = (platform.data / "nats.url").read_text().strip()
    canary = ServiceProcess("services.generator", tmp_path, nats_url=broker, generator_variant="canary")
    canary.start()
    canary.wait_ready()
    try:
        yield canary
    finally:
        with suppress(AssertionError, ProcessLookupError):
            canary.kill()
        with suppress(SluiceError):
            client.delete_route("generate")


def route(page: Page) -> Locator:
    return page.get_by_role("region", name="Route of generate")


def share(page: Page, variant: str) -> Locator:
    """The cell of a variant's share."""
    return route(page).get_by_role("row", name=re.compile(f"^{variant}")).get_by_role("cell").first


def test_a_canary_is_moved_to_half_of_the_queries_with_the_keyboard_and_back(
    visit: Visit, client: Client, canary: ServiceProcess
) -> None:
    page = visit.open("/operate/routes")
    slider = route(page).get_by_role("slider", name="Share of generate/canary")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("PageUp")
    expect(slider).to_have_attribute("aria-valuetext", "50 %")
    expect(share(page, "canary")).to_have_text("0 %")
    visit.check_accessibility(page)
    route(page).get_by_role("button", name="Apply").click()
    expect(share(page, "canary")).to_have_text("50 %")
    assert client.route("generate").weights == {"default": 50, "canary": 50}
    route(page).get_by_role("button", name="Undo").click()
    expect(share(page, "canary")).to_have_text("0 %")
    assert client.route("generate").revision == 0


def test_a_route_that_somebody_else_has_changed_is_not_overwritten(
    visit: Visit, client: Client, canary: ServiceProcess
) -> None:
    visit.expected.append("412")
    page = visit.open("/operate/routes")
    route(page).get_by_role("spinbutton", name="Share of generate/canary in percent").fill("40")
    client.set_route("generate", {"default": 90, "canary": 10})
    route(page).get_by_role("button", name="Apply").click()
    expect(route(page).get_by_role("alert")).to_contain_text("has changed since you read it")
    assert client.route("generate").weights == {"default": 90, "canary": 10}
    route(page).get_by_role("button", name="Read it again").click()
    expect(share(page, "canary")).to_have_text("10 %")
    expect(route(page).get_by_role("slider", name="Share of generate/canary")).to_have_value("10")
    expect(route(page).get_by_role("alert")).to_have_count(0)


def test_the_picture_shows_where_queries_wait_and_that_they_are_answered(
    visit: Visit, platform: Platform, client: Client, canary: ServiceProcess, collection: str
) -> None:
    canary.kill()
    client.set_route("generate", {"canary": 1})
    page = visit.open("/operate")
    picture = page.get_by_role("img", name="The pipeline")
    expect(picture).to_be_visible()
    body = {"question": "Who built the blue lamp?", "collection": collection, "timeout": 120}
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with ThreadPoolExecutor(3) as askers:

        def ask(_: int) -> int:
            with httpx.Client(base_url=platform.url, headers=headers, trust_env=False, timeout=150) as http:
                return http.post("/v1/query", json=body).status_code

        answers = askers.map(ask, range(3))
        expect(picture).to_have_accessible_name(re.compile("generate/canary: 3 waiting"))
        expect(page.get_by_text("The longest queue is that of generate/canary: 3 queries wait.")).to_be_visible()
        expect(page.get_by_role("list", name="What needs attention")).to_contain_text("generate/canary")
        table = page.get_by_role("group", name="Stages, a table")
        expect(table.get_by_role("row", name="generate/canary").get_by_role("cell").first).to_have_text("3")
        expect(table.get_by_role("row", name="gateway").get_by_role("cell").nth(1)).to_contain_text("3 of")
        visit.check_accessibility(page)
        canary.start()
        assert list(answers) == [200, 200, 200]
    expect(page.get_by_text("The longest queue")).to_have_count(0)


def test_beside_the_shares_are_the_times_of_each_variant(
    visit: Visit, client: Client, canary: ServiceProcess, collection: str
) -> None:
    client.query("Who built the blue lamp?", collection=collection)
    page = visit.open("/operate/routes")
    page.get_by_label("Figures").select_option(label="since the workers started")
    headings = route(page).get_by_role("columnheader")
    expect(headings).to_contain_text(["Variant", "Share", "Queries", "Work", "Work, p95", "Failed"])
    place = headings.all_inner_texts().index("Work, p95") - 1
    times = route(page).get_by_role("row", name=re.compile("^default")).get_by_role("cell").nth(place)
    expect(times).to_have_text(re.compile(r"^[\d.,]+ (ms|s)$"))


def test_the_status_and_the_routes_fit_a_phone(phone: Visit, canary: ServiceProcess) -> None:
    page = phone.open("/operate")
    expect(page.get_by_role("img", name="The pipeline")).to_be_visible()
    phone.check_width(page)
    phone.check_accessibility(page)
    page.get_by_role("link", name="Routes").click()
    expect(route(page)).to_be_visible()
    phone.check_width(page)
    phone.check_accessibility(page)


def ask_and_open_the_trace(page: Page) -> None:
    page.get_by_role("textbox", name="Question").fill("Who built the blue lamp of the harbour?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_contain_text("Ottilie Brandt")
    page.get_by_text("What was searched").click()
    page.get_by_role("article").get_by_role("link", name=re.compile("^[0-9a-f]{32}$")).click()
    expect(page.get_by_role("heading", name="Trace")).to_be_visible()


def test_an_answer_leads_to_its_trace_and_a_span_to_its_attributes(visit: Visit, collection: str) -> None:
    page = visit.open(f"/ask?collection={collection}")
    ask_and_open_the_trace(page)
    spans = page.get_by_role("list", name="Spans in the order in which they began")
    expect(spans.get_by_role("listitem").first).to_contain_text("POST /v1/query")
    for hop in ("embed", "retrieve", "generate"):
        expect(spans.get_by_role("button", name=f"process query.{hop}")).to_be_visible()
    hop = spans.get_by_role("button", name="process query.retrieve")
    hop.focus()
    page.keyboard.press("Enter")
    expect(hop).to_have_attribute("aria-expanded", "true")
    expect(spans).to_contain_text("messaging.destination.name")
    visit.check_accessibility(page)
    trace = page.url.rpartition("/")[2]
    page.get_by_role("link", name="All traces").click()
    row = page.get_by_role("row").filter(has=page.locator(f"a[href$='{trace}']"))
    expect(row).to_contain_text("POST /v1/query")
    visit.check_accessibility(page)


def test_a_trace_is_read_on_a_phone(phone: Visit, collection: str) -> None:
    page = phone.open(f"/ask?collection={collection}")
    ask_and_open_the_trace(page)
    expect(page.get_by_role("button", name="process query.generate")).to_be_visible()
    phone.check_width(page)
    phone.check_accessibility(page)


def test_a_trace_that_nobody_remembers_is_said_in_words(visit: Visit) -> None:
    visit.expected.append("404")
    page = visit.open("/operate/traces")
    page.get_by_role("searchbox", name="Id of a trace, a query or a job").fill("f" * 32)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="This trace is not remembered")).to_be_visible()


def test_a_key_that_may_only_ask_sees_its_traces_and_nothing_else_here(
    browser: Browser, platform: Platform, client: Client
) -> None:
    visit = Visit.begin(browser, platform.url, size=DESKTOP)
    visit.sign_in(client.create_key("asker", ["query"]).secret)
    page = visit.open("/operate")
    expect(page.get_by_role("heading", name="Traces")).to_be_visible()
    expect(page.get_by_role("link", name="Status")).to_have_count(0)
    expect(page.get_by_role("link", name="Keys")).to_have_count(0)
    visit.check()
    visit.context.close()


def test_a_key_that_may_read_sees_routes_and_changes_none(
    browser: Browser, platform: Platform, client: Client, canary: ServiceProcess
) -> None:
    visit = Visit.begin(browser, platform.url, size=DESKTOP)
    visit.sign_in(client.create_key("reader", ["read"]).secret)
    page = visit.open("/operate/routes")
    expect(share(page, "canary")).to_have_text("0 %")
    expect(page.get_by_role("slider")).to_have_count(0)
    visit.check()
    visit.context.close()


def test_a_window_from_before_an_upgrade_of_the_gateway_is_loaded_anew(visit: Visit) -> None:
    visit.expected += ["404", "dynamically imported module"]
    page = visit.open("/ask")
    expect(page.get_by_role("link", name="Operate")).to_be_visible()

    def answer(route: Route) -> None:
        if route.request.resource_type != "fetch":
            route.fallback()
            return
        page.unroute("**/assets/*.js")
        route.fulfill(content_type="text/html", body="another build")

    page.route("**/assets/*.js", lambda route: route.fulfill(status=404))
    page.route(re.compile("/$"), answer)
    page.get_by_role("link", name="Operate").click()
    expect(page.get_by_role("heading", name="Status")).to_be_visible()
