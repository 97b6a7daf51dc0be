"""What readers say of answers, in the console: thumbs, corrections, sources judged, and the list of all of it."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from sluice import Client
from tests.console.conftest import ADMIN
from tests.harness.browser import PHONE, Visit, visiting
from tests.harness.platform import Platform, eventually

QUESTION: Final = "Who built the blue lamp of the harbour?"
ANSWER: Final = "The blue lamp of the harbour was built by Ottilie Brandt in 1911."
HOSTILE: Final = (
    "<img src=x onerror='window.__owned = 1'> [link](javascript:window.__owned=2) <script>window.__owned = 3</script>"
)


@pytest.fixture(scope="module")
def collection(keeping: Platform) -> str:
    texts = {"lamp.txt": ANSWER, "berth.txt": "Berth 4 of the harbour is seven metres deep."}
    with Client(keeping.url, api_key=ADMIN, timeout=60) as client:
        client.create_collection("lamps")
        assert client.wait(client.add_texts("lamps", texts).id, timeout=120).state == "succeeded"
    return "lamps"


@pytest.fixture
def reader(browser: Browser, keeping: Platform, collection: str) -> Iterator[Visit]:
    yield from visiting(browser, keeping.url, ADMIN)


@pytest.fixture
def other_reader(browser: Browser, keeping: Platform, collection: str) -> Iterator[Visit]:
    """The same person in another browser."""
    yield from visiting(browser, keeping.url, ADMIN)


@pytest.fixture
def reader_on_a_phone(browser: Browser, keeping: Platform, collection: str) -> Iterator[Visit]:
    yield from visiting(browser, keeping.url, ADMIN, PHONE, dark=True)


def ask(visit: Visit, question: str = QUESTION) -> Page:
    page = visit.open("/ask?collection=lamps")
    page.get_by_role("textbox", name="Question").fill(question)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    return page


def said(visit: Visit) -> dict[str, Any]:
    """What was said last."""
    found: list[dict[str, Any]] = visit.context.request.get("/v1/feedback?limit=1").json()["feedback"]
    return found[0]


def rating_of(visit: Visit, path: str) -> str | None:
    """What a conversation that the server keeps says of its first answer."""
    conversation = visit.context.request.get(f"/v1/conversations/{path.rpartition('/')[2]}").json()
    rating: str | None = (conversation["exchanges"][0].get("said") or {}).get("rating")
    return rating


def form(page: Page) -> Locator:
    return page.get_by_role("form", name="What was wrong with the answer")


def state(page: Page) -> Locator:
    return page.get_by_role("region", name="Your feedback").get_by_role("status")


def thumb(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def test_a_thumb_is_sent_at_once_shown_in_another_browser_and_taken_back(reader: Visit, other_reader: Visit) -> None:
    page = ask(reader)
    thumb(page, "Good answer").click()
    expect(thumb(page, "Good answer")).to_have_attribute("aria-pressed", "true")
    expect(state(page)).to_have_text("Sent")
    assert said(reader)["rating"] == "up"
    reader.check_accessibility(page)
    page.reload()
    expect(thumb(page, "Good answer")).to_have_attribute("aria-pressed", "true")

    path = page.url.removeprefix(reader.url)

    eventually(lambda: rating_of(reader, path) == "up", "the rating is in the conversation")
    other = other_reader.open(path)
    expect(thumb(other, "Good answer")).to_have_attribute("aria-pressed", "true")
    thumb(other, "Good answer").click()
    expect(thumb(other, "Good answer")).to_have_attribute("aria-pressed", "false")
    eventually(lambda: rating_of(reader, path) == "", "it is taken back in the conversation")
    assert said(reader)["rating"] == ""


def test_an_answer_is_corrected_and_whoever_may_read_sees_the_difference(reader: Visit) -> None:
    page = ask(reader)
    thumb(page, "Poor answer").click()
    form(page).get_by_role("button", name="Wrong").click()
    form(page).get_by_role("button", name="Not in the sources").click()
    expect(form(page).get_by_label("The answer as it should have been")).to_have_value(re.compile("Ottilie Brandt"))
    form(page).get_by_label("The answer as it should have been").fill("The blue lamp was built by her sister in 1912.")
    form(page).get_by_label("Comment").fill(HOSTILE)
    reader.check_accessibility(page)
    form(page).get_by_role("button", name="Send").click()
    expect(form(page)).to_have_count(0)
    expect(state(page)).to_have_text("Sent · wrong · not in the sources · a correction · a comment")
    assert said(reader)["tags"] == ["wrong", "not-in-sources"]

    page.get_by_role("button", name="Change").click()
    expect(form(page).get_by_label("Comment")).to_have_value(HOSTILE)
    form(page).get_by_role("button", name="Wrong").click()
    form(page).get_by_role("button", name="Send").click()
    expect(state(page)).to_have_text("Sent · not in the sources · a correction · a comment")

    page.goto("/operate/feedback")
    entry = page.get_by_role("article", name=f"Feedback on {QUESTION}").first
    expect(entry).to_contain_text("Poor answer")
    expect(entry).to_contain_text("Not in the sources")
    expect(entry.get_by_role("deletion")).to_contain_text(["of the harbour", "Ottilie Brandt", "1911"])
    expect(entry.get_by_role("insertion")).to_have_text(["her sister", "1912"])
    expect(entry.get_by_role("blockquote")).to_have_text(HOSTILE)
    assert page.evaluate("() => window.__owned") is None
    assert page.locator("a[href^='javascript']").count() == 0
    reader.check_accessibility(page)
    page.get_by_label("Rating").select_option(label="good answers")
    expect(page.get_by_role("article").filter(has_text="Poor answer")).to_have_count(0)
    page.get_by_label("Rating").select_option(label="poor answers")
    entry.get_by_role("link", name="Trace").click()
    expect(page.get_by_role("heading", name="Trace")).to_be_visible()


def test_the_answer_as_it_was_is_no_correction(reader: Visit) -> None:
    page = ask(reader)
    page.get_by_role("button", name="Correct it").click()
    form(page).get_by_role("button", name="Style").click()
    form(page).get_by_role("button", name="Send").click()
    expect(state(page)).to_have_text("Sent · style")
    assert said(reader)["correction"] == ""


def test_an_answer_is_corrected_with_the_keyboard_alone(reader: Visit) -> None:
    page = ask(reader)
    correct = page.get_by_role("button", name="Correct it")
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if correct.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(form(page).get_by_label("The answer as it should have been")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("Nobody knows.")
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(form(page).get_by_role("button", name="Send")).to_be_focused()
    page.keyboard.press("Enter")
    expect(state(page)).to_have_text("Sent · a correction")
    expect(page.get_by_role("button", name="Change")).to_be_focused()
    assert said(reader)["correction"] == "Nobody knows."


def test_sources_are_judged_where_they_are_read(reader: Visit) -> None:
    page = ask(reader)
    page.get_by_text("What was searched").click()
    page.get_by_role("button", name="Does not belong: source 2").click()
    expect(state(page)).to_have_text("Sent · 1 source")
    page.get_by_role("article").get_by_role("button", name="Source 1", exact=True).first.click()
    panel = page.get_by_role("complementary", name="Source 1")
    panel.get_by_role("button", name="Belongs here").click()
    expect(state(page)).to_have_text("Sent · 2 sources")
    reader.check_accessibility(page)
    assert said(reader)["sources"] == [{"index": 1, "relevant": True}, {"index": 2, "relevant": False}]
    panel.get_by_role("button", name="Belongs here").click()
    expect(state(page)).to_have_text("Sent · 1 source")
    page.goto("/operate/feedback")
    entry = page.get_by_role("article", name=f"Feedback on {QUESTION}").first
    expect(entry.get_by_role("list", name="Sources judged")).to_have_text(
        re.compile(r"does not belong\s*2\s*berth.txt #1")
    )


def test_what_is_opened_and_copied_is_noted(reader: Visit) -> None:
    page = ask(reader)
    page.get_by_role("article").get_by_role("button", name="Source 1", exact=True).first.click()
    expect(page.get_by_role("complementary", name="Source 1")).to_be_visible()
    page.get_by_role("button", name="Copy as Markdown").click()

    def noted() -> bool:
        known = said(reader)
        return known["opened"] == [1] and known["copied"] is True and known["rating"] == ""

    eventually(noted, "what was opened and copied")
    expect(state(page)).to_have_text("")


def test_what_is_said_while_the_next_answer_is_on_its_way_is_not_lost(reader: Visit) -> None:
    page = ask(reader)
    first, second = page.get_by_role("article").first, page.get_by_role("article").nth(1)
    held: list[Route] = []
    page.route("**/v1/query", lambda route: held.append(route))
    page.get_by_role("textbox", name="Question").fill("How deep is berth 4?")
    page.keyboard.press("Enter")
    expect(second).to_contain_text("Searching")
    good = first.get_by_role("button", name="Good answer")
    good.click()
    expect(first.get_by_role("status")).to_have_text("Sent")
    held[0].continue_()
    expect(second).to_contain_text("seven metres")
    expect(second.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "false")
    expect(good).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(good).to_have_attribute("aria-pressed", "true")


def test_of_quick_clicks_the_last_one_counts(reader: Visit) -> None:
    page = ask(reader)
    for name in ("Good answer", "Poor answer", "Good answer", "Poor answer", "Good answer"):
        thumb(page, name).click()
    expect(state(page)).to_have_text("Sent")
    eventually(lambda: said(reader)["rating"] == "up", "the last click")
    expect(thumb(page, "Good answer")).to_have_attribute("aria-pressed", "true")
    expect(thumb(page, "Poor answer")).to_have_attribute("aria-pressed", "false")


def test_a_form_that_cannot_be_sent_stays_open_with_its_words(reader: Visit) -> None:
    reader.expected.append("ERR_FAILED")
    page = ask(reader)
    page.route("**/v1/feedback", lambda route: route.abort())
    page.get_by_role("button", name="Correct it").click()
    form(page).get_by_label("Comment").fill("Ask the harbour master.")
    form(page).get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("The gateway cannot be reached")
    expect(page.get_by_role("alert")).to_be_in_viewport()
    expect(form(page).get_by_label("Comment")).to_have_value("Ask the harbour master.")
    page.unroute("**/v1/feedback")
    form(page).get_by_role("button", name="Send").click()
    expect(state(page)).to_have_text("Sent · a comment")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_answer_that_is_no_longer_kept_says_so_and_the_thumb_goes_back(reader: Visit) -> None:
    reader.expected.append("404")
    page = ask(reader)

    def kept() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = reader.context.request.get("/v1/answers?limit=50").json()["answers"]
        return found

    trace = page.get_by_role("article").get_by_role("link", name=re.compile(" m?s$")).get_attribute("href")
    assert trace is not None
    eventually(lambda: any(one["trace_id"] == trace.rpartition("/")[2] for one in kept()), "the answer is kept")
    (answer,) = [one["id"] for one in kept() if one["trace_id"] == trace.rpartition("/")[2]]
    gone = reader.context.request.delete(f"/v1/answers/{answer}", headers={"X-Sluice-Console": "1"})
    assert gone.ok, gone.text()
    thumb(page, "Good answer").click()
    expect(page.get_by_role("alert")).to_contain_text(f"No answer '{answer}' is kept for you")
    expect(thumb(page, "Good answer")).to_have_attribute("aria-pressed", "false")


def test_feedback_on_a_phone_in_the_dark(reader_on_a_phone: Visit) -> None:
    page = ask(reader_on_a_phone)
    thumb(page, "Poor answer").click()
    expect(form(page).get_by_role("button", name="Send")).to_be_in_viewport()
    reader_on_a_phone.check_width(page)
    reader_on_a_phone.check_accessibility(page)
    form(page).get_by_label("The answer as it should have been").fill("Nobody knows " + "x" * 300)
    form(page).get_by_role("button", name="Send").click()
    expect(form(page)).to_have_count(0)
    page.goto("/operate/feedback")
    expect(page.get_by_role("article").first).to_contain_text("Nobody knows")
    reader_on_a_phone.check_width(page)
    reader_on_a_phone.check_accessibility(page)


def test_the_list_is_read_page_by_page(reader: Visit) -> None:
    headers = {"X-Sluice-Console": "1"}
    for n in range(22):
        body = {"question": f"How deep is berth {n} of the harbour?", "collection": "lamps"}
        answer = reader.context.request.post("/v1/query", data=body, headers=headers).json()["id"]
        rated = reader.context.request.post("/v1/feedback", data={"answer": answer, "rating": "up"}, headers=headers)
        assert rated.ok, rated.text()
    page = reader.open("/operate/feedback")
    entries = page.get_by_role("article")
    expect(entries).to_have_count(20)
    expect(entries.first).to_contain_text("berth 21")
    page.get_by_role("button", name="Older").click()
    expect(entries.first).to_contain_text("berth 1 of")
    page.get_by_role("button", name="Newer").click()
    expect(entries.first).to_contain_text("berth 21")


def test_a_key_that_may_only_ask_rates_its_answers_and_sees_no_list(
    browser: Browser, keeping: Platform, collection: str
) -> None:
    with Client(keeping.url, api_key=ADMIN, timeout=60) as client:
        secret = client.create_key("asker", ["query"]).secret
    for visit in visiting(browser, keeping.url, secret):
        page = ask(visit)
        thumb(page, "Good answer").click()
        expect(state(page)).to_have_text("Sent")
        page.goto("/operate")
        expect(page.get_by_role("heading", name="Traces")).to_be_visible()
        expect(page.get_by_role("link", name="Feedback")).to_have_count(0)


def test_where_answers_are_not_kept_there_are_no_thumbs(visit: Visit, client: Client) -> None:
    client.create_collection("unkept")
    assert client.wait(client.add_texts("unkept", {"lamp.txt": ANSWER}).id, timeout=120).state == "succeeded"
    page = visit.open("/ask?collection=unkept")
    page.get_by_role("textbox", name="Question").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    expect(page.get_by_role("region", name="Your feedback")).to_have_count(0)
    page.goto("/operate/feedback")
    expect(page.get_by_text("SLUICE_KEEP_ANSWERS=true")).to_be_visible()
