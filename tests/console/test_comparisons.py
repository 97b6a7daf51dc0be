"""Answers of a shadow beside the live ones, in the console."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, Locator, expect

from sluice import Client, SluiceError
from tests.console.conftest import ADMIN
from tests.harness.browser import PHONE, Visit, visiting
from tests.harness.platform import Platform, eventually
from tests.harness.processes import ServiceProcess

QUESTION: Final = "How deep is berth 5, and how deep is berth 6?"
BERTHS: Final = "\n\n".join(
    f"## Berth {n}\n\nBerth {n} is {n + 3} metres deep and takes boats of {n * 2 + 9} metres." for n in range(1, 9)
)


@pytest.fixture(scope="module")
def operator(keeping: Platform) -> Iterator[Client]:
    with Client(keeping.url, api_key=ADMIN, timeout=60) as client:
        client.create_collection("berths")
        assert client.wait(client.add_texts("berths", {"berths.md": BERTHS}).id, timeout=120).state == "succeeded"
        yield client


@pytest.fixture(scope="module")
def shadow(keeping: Platform, operator: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A variant of the generator that quotes one sentence, and gets a copy of each query."""
    settings = {"nats_url": (keeping.data / "nats.url").read_text().strip(), "extract_sentences": 1}
    with ServiceProcess("services.generator", tmp_path_factory.mktemp("terse"), generator_variant="terse", **settings):
        operator.set_route("generate", {"default": 100}, shadows={"terse": 100})
        try:
            yield "terse"
        finally:
            with suppress(SluiceError):
                operator.delete_route("generate")


def pairs(keeping: Platform) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    url = f"{keeping.url}/v1/comparisons?stage=generate&limit=100"
    found: list[dict[str, Any]] = httpx.get(url, headers=headers, trust_env=False, timeout=60).json()["comparisons"]
    return found


@pytest.fixture(scope="module")
def compared(keeping: Platform, operator: Client, shadow: str) -> int:
    """So many queries that both have answered."""
    known = len(pairs(keeping))
    for n in range(1, 12):
        operator.query(QUESTION if n == 11 else f"How deep is berth {n % 8 + 1}?", collection="berths")
        eventually(lambda n=n: len(pairs(keeping)) == known + n, "the shadow has answered")  # type: ignore[misc]
    return 11


@pytest.fixture
def window(browser: Browser, keeping: Platform) -> Iterator[Visit]:
    yield from visiting(browser, keeping.url, ADMIN)


@pytest.fixture
def pocket(browser: Browser, keeping: Platform) -> Iterator[Visit]:
    yield from visiting(browser, keeping.url, ADMIN, PHONE, dark=True)


def side(pair: Locator, title: str) -> Locator:
    return pair.locator(".text-side").filter(has=pair.page.get_by_role("heading", name=title))


def test_an_answer_of_a_shadow_stands_beside_the_live_one(window: Visit, compared: int) -> None:
    page = window.open("/operate/routes")
    page.get_by_role("region", name="Route of generate").get_by_role("link", name="Compare answers").click()
    expect(page.get_by_role("heading", name="Answers of generate/terse")).to_be_visible()
    pair = page.get_by_role("article", name=f"Answers to {QUESTION}")
    live, shadow = side(pair, "Live: default"), side(pair, "Shadow: terse")
    expect(live).to_contain_text("Berth 5 is 8 metres deep")
    expect(live).to_contain_text("Berth 6 is 9 metres deep")
    expect(live.locator("mark")).to_have_count(1)
    expect(shadow.locator("mark")).to_have_count(0)
    expect(pair.get_by_role("progressbar", name="Sources in common")).to_have_attribute("aria-valuenow", "100")
    share = int(pair.get_by_role("progressbar", name="Words in common").get_attribute("aria-valuenow") or 0)
    assert 0 < share < 100
    for column in (live, shadow):
        expect(column.get_by_role("listitem").first).to_contain_text("in both")
        for fact in ("Confidence", "Time", "In generate", "Tokens"):
            expect(column.get_by_role("term").get_by_text(fact, exact=True)).to_be_visible()
    places = [column.bounding_box() for column in (live, shadow)]
    assert len({place["y"] for place in places if place}) == 1, "they do not stand beside each other"
    window.check_width(page)
    window.check_accessibility(page)


def test_older_answers_come_page_by_page(window: Visit, compared: int) -> None:
    page = window.open("/operate/routes/generate/terse")
    expect(page.get_by_role("article")).to_have_count(10)
    page.get_by_role("button", name="Older").click()
    expect(page.get_by_role("article")).to_have_count(compared - 10)
    expect(page.get_by_role("article").first).to_contain_text("How deep is berth 2?")
    page.get_by_role("button", name="Newest").click()
    expect(page.get_by_role("article").first).to_contain_text(QUESTION)


def test_on_a_phone_one_answer_stands_below_the_other(pocket: Visit, compared: int) -> None:
    page = pocket.open("/operate/routes/generate/terse")
    pair = page.get_by_role("article").first
    live, shadow = (side(pair, title).bounding_box() for title in ("Live: default", "Shadow: terse"))
    assert live is not None
    assert shadow is not None
    assert live["y"] + live["height"] < shadow["y"]
    pocket.check_width(page)
    pocket.check_accessibility(page)


def test_where_nothing_was_compared_the_page_says_what_it_takes(window: Visit) -> None:
    page = window.open("/operate/routes/generate/nobody")
    expect(page.get_by_role("heading", name="There are no answers to compare yet")).to_be_visible()
    expect(page.get_by_text("a shadow percentage")).to_be_visible()
    window.check_accessibility(page)


def test_a_key_for_one_collection_compares_nothing(browser: Browser, keeping: Platform, compared: int) -> None:
    with Client(keeping.url, api_key=ADMIN, timeout=60) as client:
        secret = client.create_key("of berths", ["read", "query"], collections=["berths"]).secret
    for visit in visiting(browser, keeping.url, secret):
        visit.expected.append("403")
        page = visit.open("/operate/routes")
        expect(page.get_by_role("region", name="Route of generate")).to_be_visible()
        expect(page.get_by_role("link", name="Compare answers")).to_have_count(0)
        page.goto("/operate/routes/generate/terse")
        expect(page.get_by_role("alert")).to_contain_text("sees all collections and documents")


def test_where_answers_are_not_kept_the_route_says_what_to_set(
    visit: Visit, client: Client, platform: Platform, tmp_path: Path
) -> None:
    broker = (platform.data / "nats.url").read_text().strip()
    with ServiceProcess("services.generator", tmp_path, nats_url=broker, generator_variant="terse"):
        client.set_route("generate", {"default": 100}, shadows={"terse": 5})
        try:
            page = visit.open("/operate/routes")
            expect(page.get_by_text("SLUICE_KEEP_ANSWERS=true")).to_be_visible()
            expect(page.get_by_role("link", name="Compare answers")).to_have_count(0)
        finally:
            client.delete_route("generate")
