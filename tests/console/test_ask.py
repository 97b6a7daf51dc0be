"""Asking in the console: answers, citations in their document, and text that stays text."""

from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from sluice import Client
from tests.console.conftest import ADMIN
from tests.harness.browser import Visit
from tests.harness.platform import Platform

HARBOUR: Final = "\n\n".join(
    [
        "# The harbour of Sundsholm",
        *(
            f"## Berth {n}\n\nBerth {n} is {n + 3} metres deep and takes boats of {n * 2 + 9} metres."
            for n in range(1, 13)
        ),
        "## The blue lamp\n\nThe blue lamp of the harbour was built by Ottilie Brandt in 1911.",
        *(f"## Shed {n}\n\nShed {n} belongs to the fishers of row {n}." for n in range(1, 13)),
    ]
)

HOSTILE: Final = (
    "The zebra valve opens at 7 bar. <script>window.__owned = 1</script> "
    "<img src=x onerror='window.__owned = 2'> [a link](javascript:window.__owned=3) "
    "[a page](/jobs/new) [a file](other.md) "
    "\u202e\u0007 <b onclick='window.__owned = 4'>bold</b>"
)


@pytest.fixture(scope="module")
def collection(client: Client) -> str:
    client.create_collection("harbour")
    texts = {"harbour.md": HARBOUR, "valve.txt": HOSTILE, "المصباح.txt": ARABIC, "港口.txt": CHINESE}
    job = client.add_texts("harbour", texts)
    assert client.wait(job.id, timeout=120).state == "succeeded"
    return "harbour"


ARABIC: Final = "افتتح المصباح الأزرق في الميناء عام 1911، وبنته أوتيلي برانت."
CHINESE: Final = "蓝色的灯在港口，由奥蒂莉·布兰特于一九一一年建造。"  # noqa: RUF001


def ask(page: Page, question: str) -> None:
    page.get_by_role("textbox", name="Question").fill(question)
    page.keyboard.press("Enter")


def test_an_answer_cites_a_passage_that_opens_at_its_place(visit: Visit, collection: str) -> None:
    page = visit.open(f"/ask?collection={collection}")
    ask(page, "Who built the blue lamp of the harbour?")
    expect(page.get_by_role("article")).to_contain_text("Ottilie Brandt")
    page.get_by_role("article").get_by_role("button", name="Source 1", exact=True).first.click()
    panel = page.get_by_role("complementary", name="Source 1")
    expect(panel.get_by_role("heading")).to_have_text("harbour.md")
    marked = panel.locator("mark")
    expect(marked).to_contain_text("Ottilie Brandt")
    expect(marked).to_be_in_viewport()
    assert panel.get_by_role("region").count() > 1, "no passages around it"
    visit.check_accessibility(page)
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)


def test_the_same_on_a_phone_in_the_dark(phone: Visit, collection: str) -> None:
    page = phone.open(f"/ask?collection={collection}")
    ask(page, "Who built the blue lamp of the harbour?")
    expect(page.get_by_role("article")).to_contain_text("Ottilie Brandt")
    page.get_by_text("What was searched").click()
    phone.check_width(page)
    phone.check_accessibility(page)


def test_the_keyboard_stays_in_a_source_that_covers_the_page(phone: Visit, collection: str) -> None:
    page = phone.open(f"/ask?collection={collection}")
    ask(page, "Who built the blue lamp of the harbour?")
    citation = page.get_by_role("article").get_by_role("button", name="Source 1", exact=True).first
    citation.click()
    panel = page.get_by_role("complementary", name="Source 1")
    expect(panel.locator("mark")).to_contain_text("Ottilie Brandt")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('aside')")
    phone.check_accessibility(page)
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(citation).to_be_focused()


def test_a_follow_up_is_asked_with_the_turns_before_it_and_both_are_still_there_after_a_reload(
    visit: Visit, collection: str
) -> None:
    page = visit.open(f"/ask?collection={collection}")
    ask(page, "Who built the blue lamp of the harbour?")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    ask(page, "How deep is berth 4?")
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("article").last).to_contain_text("7 metres")
    page.reload()
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("article").first).to_contain_text("Ottilie Brandt")


def test_text_of_documents_is_never_markup(visit: Visit, collection: str) -> None:
    page = visit.open(f"/ask?collection={collection}")
    ask(page, "At which pressure does the zebra valve open?")
    answer = page.get_by_role("article")
    expect(answer).to_contain_text("7 bar")
    answer.get_by_role("button", name="valve.txt").first.click()
    panel = page.get_by_role("complementary", name="Source")
    expect(panel).to_contain_text("<script>window.__owned = 1</script>")
    assert page.evaluate("() => window.__owned") is None
    assert page.locator("a[href^='javascript']").count() == 0
    # Nor does it link to the console's own pages.
    expect(answer).to_contain_text("a page")
    for name in ("a page", "a file"):
        expect(answer.get_by_role("link", name=name)).to_have_count(0)


def test_a_conversation_is_held_with_the_keyboard_alone(visit: Visit, collection: str) -> None:
    page = visit.open(f"/ask?collection={collection}")
    expect(page.get_by_role("textbox", name="Question")).to_be_focused()
    page.keyboard.type("Who built the blue lamp of the harbour?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    citation = page.get_by_role("article").get_by_role("button", name="Source 1", exact=True).first
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if citation.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Source 1")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary", name="Source")).to_have_count(0)


def test_a_conversation_that_is_not_there_says_so_and_lets_one_begin(visit: Visit, collection: str) -> None:
    page = visit.open(f"/ask/nosuchconversation?collection={collection}")
    expect(page.get_by_role("heading", name="There is no such conversation")).to_be_visible()
    ask(page, "How deep is berth 4?")
    expect(page.get_by_role("article")).to_contain_text("7 metres")


def test_a_collection_that_does_not_exist_is_said_in_words(visit: Visit) -> None:
    visit.expected.append("404")
    page = visit.open("/ask?collection=nowhere")
    ask(page, "Is anybody there?")
    expect(page.get_by_role("alert")).to_contain_text("nowhere")


@pytest.mark.parametrize(
    ("question", "name", "direction"),
    [("متى افتتح المصباح الأزرق في الميناء؟", "المصباح.txt", "rtl"), ("蓝色的灯在哪里？", "港口.txt", "ltr")],  # noqa: RUF001
    ids=["arabic", "chinese"],
)
def test_a_narrow_phone_shows_text_of_any_script(
    browser: Browser, platform: Platform, collection: str, question: str, name: str, direction: str
) -> None:
    visit = Visit.begin(browser, platform.url, size=(320, 640))
    visit.sign_in(ADMIN)
    page = visit.open(f"/ask?collection={collection}")
    ask(page, question)
    heading = page.get_by_role("article").get_by_role("heading")
    expect(heading).to_have_text(question)
    assert heading.evaluate("(heading) => getComputedStyle(heading).direction") == direction
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    page.get_by_text("What was searched").click()
    expect(page.get_by_role("article")).to_contain_text(name)
    visit.check_width(page)
    visit.check()
    visit.context.close()


def test_a_link_to_a_question_lets_somebody_else_ask_it(visit: Visit, collection: str) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.open(f"/ask?collection={collection}")
    ask(page, "How deep is berth 4?")
    page.get_by_role("button", name="Copy link to the question").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    other = visit.open(page.evaluate("() => navigator.clipboard.readText()"))
    expect(other.get_by_role("textbox", name="Question")).to_have_value("How deep is berth 4?")
    expect(other.get_by_role("combobox", name="Collection")).to_have_value(collection)
    other.keyboard.press("Enter")
    expect(other.get_by_role("article")).to_contain_text("7 metres")
