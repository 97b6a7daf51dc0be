"""What goes wrong around the console: odd addresses, lost requests, two windows, pages left early, revoked keys."""

import re
from collections.abc import Callable
from typing import Final

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from sluice import Client
from tests.console.conftest import ADMIN
from tests.harness.browser import Visit
from tests.harness.platform import Platform

REFUSED: Final = "Failed to load resource"

PLAN: Final = "The kestrel launch happens on 4 May."


@pytest.fixture(scope="module")
def collection(client: Client) -> str:
    client.create_collection("mishaps")
    assert client.wait(client.add_texts("mishaps", {"plan.txt": PLAN}).id, timeout=120).state == "succeeded"
    return "mishaps"


@pytest.fixture
def person(browser: Browser, platform: Platform) -> tuple[Visit, Callable[[], None]]:
    """Somebody with a key of their own, and what revokes it."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with httpx.Client(base_url=platform.url, headers=headers, trust_env=False, timeout=30) as admin:
        body = {"name": "passing", "actions": ["query", "read", "write", "jobs"], "collections": ["*"]}
        made = admin.post("/v1/keys", json=body).raise_for_status().json()
    visit = Visit.begin(browser, platform.url)
    visit.sign_in(made["secret"])

    def revoke() -> None:
        httpx.delete(f"{platform.url}/v1/keys/{made['key']['id']}", headers=headers, trust_env=False).raise_for_status()

    return visit, revoke


def ask(page: Page, question: str) -> None:
    page.get_by_role("textbox", name="Question").fill(question)
    page.keyboard.press("Enter")


def hold(page: Page, pattern: str) -> list[Route]:
    """From now on what is posted there waits; the list gets it."""
    held: list[Route] = []
    page.route(pattern, lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    return held


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/nonsense", "There is no such page"),
        ("/jobs/a/b", "There is no such page"),
        ("/operate/nonsense", "There is no such page"),
        ("/jobs?after=nonsense", "Go to the newest jobs"),
        ("/jobs/dead-letters?after=1.5", "Dead letters"),
        ("/jobs/schedules/" + "a" * 300, "There is no such resource"),
        ("/documents?after=zzzzz", "There are no more collections"),
        ("/documents/" + "a" * 3000, "There is no collection"),
        ("/documents/mishaps?tab=nonsense", "plan.txt"),
        ("/documents/mishaps?text=%00&after=%FF", "No document matches"),
        ("/ask/%00", "There is no such conversation"),
        ("/ask?filter=nonsense", "Write JSON such as"),
    ],
)
def test_every_address_shows_something(phone: Visit, collection: str, address: str, words: str) -> None:
    phone.expected.append(REFUSED)
    page = phone.open(address)
    expect(page.get_by_text(words).first).to_be_visible()
    phone.check_width(page)


def test_a_document_opens_at_any_passage_that_an_address_names(visit: Visit, client: Client, collection: str) -> None:
    [document] = client.documents(collection)
    for place in ("1.5", "-3", "nonsense", "1e300"):
        page = visit.open(f"/documents/{collection}/{document.id}?passage={place}")
        expect(page.get_by_text(PLAN)).to_be_visible()


def test_whoever_has_no_session_any_more_is_asked_to_sign_in(
    person: tuple[Visit, Callable[[], None]], collection: str
) -> None:
    visit, revoke = person
    page = visit.open(f"/documents/{collection}?tab=versions")
    page.get_by_role("button", name="Re-index").click()
    revoke()
    page.get_by_role("dialog").get_by_role("button", name="Build").click()
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill("sk-sluice-“copied”")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not an API key")
    visit.context.close()


def test_who_could_not_be_signed_out_is_told_so(visit: Visit) -> None:
    visit.expected.append(REFUSED)
    page = visit.open("/ask")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.route("**/v1/session", lambda route: route.abort())
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("dialog", name="You are still signed in")).to_contain_text("The gateway cannot be reached")
    page.unroute("**/v1/session")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_page_that_could_not_be_loaded_is_loaded_later(visit: Visit) -> None:
    visit.expected += [REFUSED, "Unable to preload", "dynamically imported module"]
    page = visit.open("/ask")
    expect(page.get_by_role("textbox", name="Question")).to_be_visible()
    page.route("**/assets/**", lambda route: route.abort())
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("alert")).to_contain_text("This page could not be loaded")
    page.unroute("**/assets/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


def test_a_dialog_stays_until_its_request_has_ended_and_a_lost_response_makes_one_job(
    visit: Visit, client: Client, collection: str
) -> None:
    visit.expected.append(REFUSED)
    page = visit.open(f"/documents/{collection}?tab=versions")
    page.get_by_role("button", name="Re-index").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("lost")
    held = hold(page, "**/v1/jobs")
    with page.expect_request("**/v1/jobs"):
        dialog.get_by_role("button", name="Build").click()
    page.keyboard.press("Escape")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_disabled()
    held[0].fetch()  # the gateway makes the job, and nobody hears of it
    held[0].abort()
    expect(dialog.get_by_role("alert")).to_contain_text("The gateway cannot be reached")
    page.unroute("**/v1/jobs")
    dialog.get_by_role("button", name="Build").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("row", name="lost")).to_contain_text("live")
    assert len(client.jobs(kind="reindex", collection=collection)) == 1


def test_nobody_is_taken_away_from_a_later_page(visit: Visit) -> None:
    page = visit.open("/ask")
    page.get_by_role("link", name="Documents").click()
    page.get_by_role("button", name="New collection").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Collection").fill("left-behind")
    held = hold(page, "**/v1/collections")
    with page.expect_request("**/v1/collections"):
        dialog.get_by_role("button", name="Create").click()
    page.go_back()
    expect(page.get_by_role("textbox", name="Question")).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "POST"):
        held[0].continue_()
    expect(page.get_by_text("left-behind")).to_be_attached()  # the choice of collections has it
    assert page.url.endswith("/ask")


def test_two_windows_keep_each_others_conversations(visit: Visit, collection: str) -> None:
    pages = [visit.open(f"/ask?collection={collection}") for _ in range(2)]
    for number, page in enumerate(pages):
        ask(page, f"When is kestrel launch {number}?")
        expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    for page in pages:
        for number in range(2):
            expect(
                page.get_by_role("button", name=f"Delete the conversation When is kestrel launch {number}?")
            ).to_have_count(1)


def test_an_answer_that_comes_late_does_not_bring_a_deleted_conversation_back(visit: Visit, collection: str) -> None:
    visit.expected.append(REFUSED)
    page = visit.open(f"/ask?collection={collection}")
    hold(page, "**/v1/query")
    ask(page, "Is this forgotten?")
    page.get_by_role("button", name="Delete the conversation Is this forgotten?").click()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("textbox", name="Question")).to_be_visible()
    expect(page.get_by_text("Is this forgotten?")).to_have_count(0)


def reload(page: Page) -> None:
    page.reload()


def look_at_documents(page: Page) -> None:
    page.get_by_role("link", name="Documents", exact=True).click()
    expect(page.get_by_role("heading", name="Documents")).to_be_visible()
    page.go_back()


@pytest.mark.parametrize("leave", [reload, look_at_documents])
def test_a_question_whose_answer_was_left_says_so_and_can_be_asked_again(
    visit: Visit, collection: str, leave: Callable[[Page], None]
) -> None:
    visit.expected.append(REFUSED)
    page = visit.open(f"/ask?collection={collection}")
    hold(page, "**/v1/query")
    ask(page, "When is the kestrel launch?")
    expect(page.get_by_text("Searching")).to_be_visible()
    leave(page)
    expect(page.get_by_role("article")).to_contain_text("There is no answer: the page was left")
    page.unroute("**/v1/query")
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("article")).to_contain_text("4 May")


def test_a_citation_says_when_its_passage_is_no_longer_there(visit: Visit, client: Client) -> None:
    visit.expected.append(REFUSED)
    client.create_collection("moved")
    client.wait(client.add_texts("moved", {"plan.txt": PLAN}).id, timeout=120)
    page = visit.open("/ask?collection=moved")
    ask(page, "When is the kestrel launch?")
    citation = page.get_by_role("article").get_by_role("button", name="Source 1", exact=True)
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    client.wait(client.add_texts("moved", {"plan.txt": "The kestrel launch was moved to 9 June."}).id, timeout=120)
    citation.focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("complementary", name="Source 1")
    expect(panel).to_contain_text("has been indexed anew since this answer")
    expect(panel.locator("mark")).to_have_text(PLAN)
    expect(panel).to_contain_text("9 June")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(citation).to_be_focused()
    client.wait(client.delete_documents("moved", ["plan.txt"]).id, timeout=120)
    page.reload()
    citation.click()
    expect(panel).to_contain_text("The document is no longer there")
    expect(panel.locator("mark")).to_have_text(PLAN)


def test_no_schedule_is_written_over_one_that_its_writer_has_not_seen(visit: Visit, client: Client) -> None:
    visit.expected.append(REFUSED)
    spec = {"kind": "reindex", "collection": "mishaps"}
    client.create_schedule("weekly", spec, every="168h")
    page = visit.open("/jobs/schedules/new")
    page.get_by_role("textbox", name=re.compile("^Name")).fill("weekly")
    page.get_by_role("textbox", name=re.compile("^Folder")).fill("/srv/docs")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("There is a schedule weekly already")
    other = visit.open("/jobs/schedules/weekly")
    expect(other.get_by_role("button", name="Save")).to_be_visible()
    client.create_schedule("weekly", spec, every="336h")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_role("alert")).to_contain_text("Somebody has changed this schedule")
    assert client.schedule("weekly").every == "336h"
    client.delete_schedule("weekly")
