"""Conversations that the server keeps: found again in another browser, deleted for good."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from sluice import Client
from tests.console.conftest import ADMIN
from tests.harness.browser import Visit
from tests.harness.platform import Platform, eventually

QUESTION = "Who built the blue lamp?"


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("keeping")
    with Platform(folder, admin_key=ADMIN, conversations="server") as running:
        with Client(running.url, api_key=ADMIN, timeout=60) as client:
            client.create_collection("harbour")
            text = "The blue lamp of the harbour was built by Ottilie Brandt in 1911."
            assert client.wait(client.add_texts("harbour", {"lamp.txt": text}).id, timeout=120).state == "succeeded"
        yield running


@pytest.fixture(scope="module")
def browser(keeping: Platform, browser: Browser) -> Browser:
    return browser


def begin(browser: Browser, url: str) -> Visit:
    visit = Visit.begin(browser, url)
    visit.sign_in(ADMIN)
    return visit


def wait_until_kept(visit: Visit, exchanges: int) -> None:
    """Wait until the server has the newest conversation with so many answers."""

    def kept() -> bool:
        known = visit.context.request.get("/v1/conversations").json()["conversations"]
        content = (
            visit.context.request.get(f"/v1/conversations/{known[0]['id']}").json() if known else {"exchanges": ()}
        )
        return sum(exchange["done"] is not None for exchange in content["exchanges"]) == exchanges

    eventually(kept, f"{exchanges} answers kept")


def test_a_conversation_is_there_in_another_browser_until_it_is_deleted(browser: Browser, keeping: Platform) -> None:
    first, second = begin(browser, keeping.url), begin(browser, keeping.url)
    page = first.open("/ask?collection=harbour")
    page.get_by_role("textbox", name="Question").fill(QUESTION)
    page.keyboard.press("Enter")
    wait_until_kept(first, 1)
    assert page.evaluate("() => Object.keys(localStorage).filter((key) => key.includes('conversations'))") == []

    other = second.open("/ask")
    other.get_by_role("button", name=f"{QUESTION} harbour").click()
    expect(other.get_by_role("article")).to_contain_text("Ottilie Brandt")
    other.get_by_role("button", name="Source 1", exact=True).first.click()
    expect(other.get_by_role("complementary", name="Source 1")).to_contain_text("1911")
    other.get_by_role("textbox", name="Question").fill("When?")
    other.keyboard.press("Enter")
    expect(other.get_by_role("article")).to_have_count(2)
    wait_until_kept(second, 2)

    page.reload()
    expect(page.get_by_role("article")).to_have_count(2)
    page.get_by_role("button", name=f"Delete the conversation {QUESTION}").click()
    expect(page.get_by_role("button", name=QUESTION)).to_have_count(0)
    expect(page.get_by_role("article")).to_have_count(0)
    second.expected.append("404")  # it is still at the address of the conversation
    other.reload()
    expect(other.get_by_role("navigation", name="Conversations")).to_be_visible()
    expect(other.get_by_role("button", name=QUESTION)).to_have_count(0)
    for visit in (first, second):
        visit.check()
        visit.context.close()


def test_two_browsers_go_on_with_one_conversation_and_neither_loses_an_answer(
    browser: Browser, keeping: Platform
) -> None:
    first, second = begin(browser, keeping.url), begin(browser, keeping.url)
    page = first.open("/ask?collection=harbour")
    page.get_by_role("textbox", name="Question").fill("What colour is the lamp?")
    page.keyboard.press("Enter")
    wait_until_kept(first, 1)
    other = second.open(page.url.removeprefix(keeping.url))
    expect(other.get_by_role("article")).to_have_count(1)
    second.expected.append("412")  # it has not read what the first one writes now
    for at, question in ((page, "When was it built?"), (other, "Who built it?")):
        at.get_by_role("textbox", name="Question").fill(question)
        at.keyboard.press("Enter")
        expect(at.get_by_role("heading", name=question)).to_be_visible()
        wait_until_kept(first, 2 if at is page else 3)
    expect(other.get_by_role("article")).to_have_count(3)
    page.reload()
    headings = page.get_by_role("article").get_by_role("heading")
    expect(headings).to_have_text(["What colour is the lamp?", "When was it built?", "Who built it?"])
    for visit in (first, second):
        visit.check()
        visit.context.close()


def test_what_another_program_has_kept_does_not_break_the_page(browser: Browser, keeping: Platform) -> None:
    visit = begin(browser, keeping.url)
    exchanges = [
        {},
        {"question": "Odd?", "answer": 5, "sources": [{}], "done": {}, "problem": {}},
        {"done": {"cited": 1}},
    ]
    put = visit.context.request.put(
        "/v1/conversations/odd00001",
        data={"title": "Odd", "collection": "harbour", "exchanges": exchanges},
        headers={"X-Sluice-Console": "1"},
    )
    assert put.ok, put.text()
    page = visit.open("/ask/odd00001")
    expect(page.get_by_role("article")).to_have_count(3)
    expect(page.get_by_role("heading", name="Odd?")).to_be_visible()
    visit.check()
    visit.context.close()


def test_the_collection_that_there_is_is_asked_where_none_is_called_default(
    browser: Browser, keeping: Platform
) -> None:
    visit = begin(browser, keeping.url)
    with Client(keeping.url, api_key=ADMIN, timeout=60) as client:
        secret = client.create_key("of the harbour", actions=["query"], collections=["harbour"]).secret
    page = visit.open("/ask")
    expect(page.get_by_label("Collection")).to_have_value("harbour")
    visit.sign_in(secret)  # it may not list collections
    page.reload()
    expect(page.get_by_role("textbox", name="Collection")).to_have_value("harbour")
    visit.check()
    visit.context.close()
