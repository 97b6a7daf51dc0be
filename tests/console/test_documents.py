"""Documents in the console: uploads, their failures in words, passages, versions, sources, and what is deleted."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, Route, expect

from sluice import Client
from tests.console.conftest import ADMIN
from tests.harness.browser import DESKTOP, Visit
from tests.harness.platform import Platform

LONG: Final = "\n\n".join(f"# Part {n}\n\n" + f"Part {n} tells of tide number {n}. " * 60 for n in range(1, 31))

HOSTILE: Final = (
    "<html><head><title><script>window.__owned = 1</script></title></head><body>"
    "<h1>Bell &lt;script&gt;window.__owned = 2&lt;/script&gt;</h1>"
    "<p>See <a href='javascript:window.__owned=3'>javascript:window.__owned=3</a> and "
    "&lt;img src=x onerror='window.__owned=4'&gt; and \u202eback\u202c to front.</p></body></html>"
)
HOSTILE_NAME: Final = "<img src=x onerror=alert(1)>.html"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have them: with a file that cannot be read, a folder in it, and hidden files."""
    folder = tmp_path_factory.mktemp("uploads") / "handbook"
    (folder / "tides").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / "tides" / "long.md").write_text(LONG)
    (folder / "welcome.txt").write_text("Welcome to the harbour office.")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (folder / ".cache" / "old.txt").write_text("Nobody reads this.")
    return folder


@pytest.fixture(scope="module")
def archive(client: Client) -> str:
    """A collection of more documents than one page shows."""
    client.create_collection("archive")
    texts = {f"box {n % 3}/letter {n:03}.txt": f"Letter {n} is about lamp {n}." for n in range(120)}
    job = client.add_texts("archive", texts)
    assert client.wait(job.id, timeout=120).state == "succeeded"
    return "archive"


@pytest.fixture
def reader(browser: Browser, platform: Platform) -> Iterator[Visit]:
    """A window of somebody whose key may only look."""
    issued = httpx.post(
        f"{platform.url}/v1/keys",
        headers={"Authorization": f"Bearer {ADMIN}"},
        json={"name": "reader", "actions": ["read"]},
        trust_env=False,
    )
    visit = Visit.begin(browser, platform.url, size=DESKTOP)
    visit.sign_in(issued.json()["secret"])
    yield visit
    visit.check()
    visit.context.close()


def uploads(page: Page) -> Locator:
    return page.get_by_role("region", name="Uploads")


def document_names(page: Page) -> Locator:
    return page.get_by_role("region", name="Documents").get_by_role("rowheader")


def make_collection(client: Client, name: str, **texts: str) -> str:
    client.create_collection(name)
    if texts:
        job = client.add_texts(name, {f"{file}.txt": text for file, text in texts.items()})
        assert client.wait(job.id, timeout=120).state == "succeeded"
    return name


def test_a_folder_makes_a_collection_and_a_file_that_fails_says_why(visit: Visit, folder: Path) -> None:
    page = visit.open("/documents")
    page.get_by_label("Folder", exact=True).set_input_files(folder)
    dialog = page.get_by_role("dialog", name="Upload 3 files")
    dialog.get_by_role("textbox", name="Collection").fill("handbook")
    dialog.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="handbook")).to_be_visible()

    expect(uploads(page)).to_contain_text("2 indexed, 1 failed")
    failed = uploads(page).get_by_role("listitem")
    expect(failed).to_have_count(1)
    expect(failed).to_contain_text("handbook/photo.png")
    expect(failed).to_contain_text("This kind of document cannot be read: ")
    expect(uploads(page)).to_contain_text("1 hidden file or folder was left out")
    expect(document_names(page)).to_have_text(["handbook/tides/long.md", "handbook/welcome.txt"])
    visit.check_accessibility(page)
    uploads(page).get_by_role("button", name="Clear").click()
    expect(uploads(page)).to_have_count(0)

    page.get_by_role("link", name="handbook/tides/long.md").click()
    expect(page.get_by_role("heading", name="handbook/tides/long.md")).to_be_visible()
    expect(page.get_by_role("region", name=re.compile(r"^Passage \d"))).to_have_count(20)
    page.get_by_role("button", name="Later passages").click()
    expect(page.get_by_role("region", name="Passage 21", exact=True)).to_contain_text("tide number")
    page.get_by_label("From passage").fill("30")
    page.get_by_role("button", name="Go", exact=True).click()
    expect(page.get_by_role("region", name=re.compile(r"^Passage \d")).first).to_have_accessible_name("Passage 30")
    visit.check_accessibility(page)


def test_a_file_that_is_refused_does_not_keep_the_others_out(visit: Visit, client: Client, tmp_path: Path) -> None:
    visit.expected.append("422")
    long = tmp_path / "pile" / ("a" * 200) / ("b" * 200) / ("c" * 200)
    long.mkdir(parents=True)
    (long / "deep.txt").write_text("Too deep.")
    for n in range(3):
        (tmp_path / "pile" / f"note {n}.txt").write_text(f"Note {n} is short.")
    page = visit.open(f"/documents/{make_collection(client, 'piles')}")
    page.get_by_label("Folder", exact=True).set_input_files(tmp_path / "pile")
    expect(uploads(page)).to_contain_text("3 indexed, 1 failed")
    expect(uploads(page).get_by_role("listitem")).to_contain_text("The name is not valid: ")
    expect(document_names(page)).to_have_text([f"pile/note {n}.txt" for n in range(3)])


def test_a_folder_is_dropped(visit: Visit, client: Client, folder: Path) -> None:
    page = visit.open(f"/documents/{make_collection(client, 'dropped')}")
    zone = page.get_by_role("region", name="Upload", exact=True).locator(".drop")
    box = zone.bounding_box()
    assert box is not None
    devtools = visit.context.new_cdp_session(page)
    for step in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        devtools.send("Input.dispatchDragEvent", {"type": step, **place, "data": data})
        if step == "dragOver":
            expect(zone).to_contain_text("Drop to upload")
    expect(uploads(page)).to_contain_text("2 indexed, 1 failed")
    expect(document_names(page)).to_have_text(["handbook/tides/long.md", "handbook/welcome.txt"])


def test_a_folder_with_a_list_of_permissions_is_not_uploaded_for_everybody(
    visit: Visit, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "hr" / "pay").mkdir(parents=True)
    (tmp_path / "hr" / ".sluice-permissions.yaml").write_text("- files: '**'\n  allowed: [group:hr]\n")
    (tmp_path / "hr" / "pay" / "list.txt").write_text("Ann earns 100.")
    page = visit.open(f"/documents/{make_collection(client, 'payroll')}")
    page.get_by_label("Folder", exact=True).set_input_files(tmp_path / "hr")
    expect(uploads(page).get_by_role("listitem")).to_contain_text("sluice ingest")
    expect(uploads(page)).to_contain_text("1 failed")
    assert list(client.documents("payroll")) == []


def test_hostile_documents_are_text(visit: Visit, client: Client, tmp_path: Path) -> None:
    (tmp_path / HOSTILE_NAME).write_text(HOSTILE)
    head = ",".join(f"column {n}" for n in range(40))
    rows = [",".join(f"<b onclick=x>{row}</b>" for _ in range(40)) for row in range(60)]
    (tmp_path / "table.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "bell.txt").write_text("The bell \u0007 rings\u0000 twice.\n" + "x" * 3000)
    page = visit.open(f"/documents/{make_collection(client, 'hostile')}")
    page.get_by_label("Files", exact=True).set_input_files(sorted(tmp_path.iterdir()))
    expect(uploads(page)).to_contain_text("indexed")
    expect(uploads(page).get_by_role("button", name="Clear")).to_be_visible()

    page.get_by_role("link", name=HOSTILE_NAME).click()
    expect(page.get_by_role("heading", name=HOSTILE_NAME)).to_be_visible()
    passage = page.get_by_role("region", name="Passage 1", exact=True)
    expect(passage).to_contain_text("<script>window.__owned = 2</script>")
    expect(passage).to_contain_text("\ufffdback\ufffd to front")
    visit.check_width(page)
    page.get_by_role("navigation", name="Where you are").get_by_role("link", name="hostile").click()
    page.get_by_role("link", name="table.csv").click()
    expect(page.get_by_role("region", name="Passage 1", exact=True)).to_contain_text("<b onclick=x>0</b>")
    visit.check_width(page)
    assert page.locator("main b, main a[href^='javascript'], main img").count() == 0
    assert page.evaluate("() => window.__owned") is None


def test_documents_are_paged_found_and_deleted(visit: Visit, archive: str) -> None:
    page = visit.open(f"/documents/{archive}")
    names = document_names(page)
    expect(names).to_have_count(50)
    expect(names.first).to_have_text("box 0/letter 000.txt")
    pages = page.get_by_role("navigation", name="Pages of documents")
    pages.get_by_role("button", name="Next").click()
    expect(names.first).to_have_text("box 1/letter 031.txt")
    pages.get_by_role("button", name="Next").click()
    expect(names).to_have_count(20)
    expect(pages.get_by_role("button", name="Next")).to_be_disabled()
    page.go_back()
    expect(names.first).to_have_text("box 1/letter 031.txt")
    pages.get_by_role("button", name="Previous").click()
    expect(names.first).to_have_text("box 0/letter 000.txt")

    search = page.get_by_role("searchbox", name="Find documents by name")
    search.fill("LETTER 11")
    expect(names).to_have_count(10)
    search.fill("nothing like it")
    page.get_by_role("button", name="Show all documents").click()
    expect(names).to_have_count(50)
    expect(search).to_have_value("")

    search.fill("letter 007")
    expect(names).to_have_text(["box 1/letter 007.txt"])
    page.get_by_role("checkbox", name="Choose box 1/letter 007.txt").check()
    page.get_by_role("button", name="Delete 1 document").click()
    dialog = page.get_by_role("dialog", name="Delete this document?")
    expect(dialog).to_contain_text("box 1/letter 007.txt")
    dialog.get_by_role("button", name="Delete the document").click()
    expect(dialog).to_have_count(0)
    expect(names).to_have_count(0)
    search.fill("letter 008")
    page.get_by_role("link", name="box 2/letter 008.txt").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the document").click()
    expect(page.get_by_text("118 documents")).to_be_visible()
    expect(names).to_have_count(50)


def test_a_document_says_what_was_not_read_and_who_may_see_it(visit: Visit, client: Client, tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl").write_text('{"note": "The lock opens at nine."}\n{"note": "The end of thi')
    page = visit.open(f"/documents/{make_collection(client, 'partly')}")
    page.get_by_label("Files", exact=True).set_input_files(tmp_path / "cut.jsonl")
    expect(uploads(page)).to_contain_text("1 indexed, 1 of them in part")
    expect(document_names(page)).to_contain_text("Read in part")
    page.get_by_label("Read in part").check()
    page.get_by_role("link", name="cut.jsonl").click()
    expect(page.get_by_role("region", name="Warnings")).to_be_visible()

    who = page.get_by_role("region", name="Who may see it")
    expect(who).to_contain_text("Everybody")
    who.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog", name="Who may see the document")
    dialog.get_by_label("These users and groups").check()
    dialog.get_by_role("textbox").fill("group:hr\nuser:alice")
    visit.check_accessibility(page)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(who.get_by_role("listitem")).to_have_text(["group:hr", "user:alice"])

    page.get_by_role("button", name="Replace").click()
    (tmp_path / "whole.jsonl").write_text('{"note": "The lock opens at ten."}\n')
    dialog = page.get_by_role("dialog", name="Replace the document")
    dialog.get_by_label("New file").set_input_files(tmp_path / "whole.jsonl")
    dialog.get_by_role("button", name="Replace").click()
    expect(uploads(page)).to_contain_text("2 indexed")
    expect(document_names(page)).to_have_text([re.compile("cut.jsonl.*Restricted$")])
    page.get_by_role("link", name="cut.jsonl").click()
    expect(page.get_by_role("region", name="Passage 1", exact=True)).to_contain_text("opens at ten")


def test_leaving_while_files_are_sent_asks_first_and_an_upload_can_be_cancelled(
    visit: Visit, client: Client, tmp_path: Path
) -> None:
    held: list[Route] = []
    page = visit.open(f"/documents/{make_collection(client, 'slow')}")

    def hold(route: Route) -> None:
        if route.request.method == "POST":
            held.append(route)
        else:
            route.fallback()

    page.route("**/v1/collections/slow/documents*", hold)
    (tmp_path / "note.txt").write_text("A note.")
    page.get_by_label("Files", exact=True).set_input_files(tmp_path / "note.txt")
    expect(uploads(page)).to_contain_text("Keep this window open")
    expect(uploads(page).get_by_role("listitem")).to_contain_text("Uploading")

    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.close(run_before_unload=True)
    expect(uploads(page)).to_be_visible()
    page.wait_for_function("() => true")
    assert asked == ["beforeunload"]

    page.get_by_role("link", name="Ask", exact=True).first.click()
    page.get_by_role("link", name="Documents").first.click()
    expect(page.get_by_role("row", name=re.compile("^slow"))).to_contain_text("uploading")
    page.get_by_role("link", name="slow").click()
    expect(uploads(page)).to_contain_text("Uploading")
    uploads(page).get_by_role("button", name="Cancel", exact=True).click()
    expect(uploads(page)).to_contain_text("1 cancelled")
    page.unroute_all()
    uploads(page).get_by_role("button", name="Try 1 file again").click()
    expect(uploads(page)).to_contain_text("1 indexed")
    page.reload()
    expect(document_names(page)).to_have_text(["note.txt"])
    assert len(asked) == 1


def test_a_collection_is_made_filled_and_deleted_with_the_keyboard_alone(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("The key hangs beside the door.")
    page = visit.open("/documents")
    # Playwright takes over the file dialog some time after the first listener is added, and does not say when.
    page.on("filechooser", lambda chooser: chooser.set_files(tmp_path / "key.txt"))
    reach(page, page.get_by_role("button", name="New collection"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Collection")).to_be_focused()
    page.keyboard.type("keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="keyboard", exact=True)).to_be_visible()

    # The page is whole by then, and the focus stays where it is.
    expect(page.get_by_role("heading", name="This collection has no documents yet")).to_be_visible()
    reach(page, page.get_by_role("button", name="Choose files"))
    page.keyboard.press("Enter")
    document = page.get_by_role("link", name="key.txt")
    expect(document).to_be_visible()
    reach(page, document)
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Passage 1", exact=True)).to_contain_text("beside the door")
    reach(page, page.get_by_role("link", name="keyboard"))
    page.keyboard.press("Enter")

    reach(page, page.get_by_role("button", name="Delete", exact=True))
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Delete the collection keyboard?")
    expect(dialog.get_by_role("textbox")).to_be_focused()
    page.keyboard.type("keyboar")
    expect(dialog.get_by_role("button", name="Delete the collection")).to_be_disabled()
    page.keyboard.type("d")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="New collection")).to_be_visible()
    expect(page.get_by_role("link", name="keyboard")).to_have_count(0)


def reach(page: Page, target: Locator) -> None:
    """Press Tab until the focus is there."""
    expect(target).to_be_visible()
    for _ in range(80):
        if target.evaluate("(element) => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {target}")


def test_another_version_is_built_made_live_and_rolled_back(visit: Visit, client: Client) -> None:
    page = visit.open(f"/documents/{make_collection(client, 'versioned', long=LONG)}?tab=versions")
    page.get_by_role("button", name="Re-index").click()
    dialog = page.get_by_role("dialog", name="Build another version")
    dialog.get_by_label("Name").fill("small")
    dialog.get_by_label("Tokens of a passage").fill("64")
    dialog.get_by_label("Make it live").uncheck()
    dialog.get_by_role("button", name="Build").click()
    small = page.get_by_role("row", name=re.compile("^small"))
    first = page.get_by_role("row", name=re.compile("^v1"))
    small.get_by_role("button", name="Make live").click()
    visit.check_accessibility(page)
    page.get_by_role("dialog").get_by_role("button", name="Make live").click()
    expect(small).to_contain_text("live")
    expect(page.get_by_text("version small")).to_be_visible()
    first.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("version v1")).to_be_visible()


def test_a_folder_of_the_scheduler_is_followed(visit: Visit, client: Client, sources: Path) -> None:
    followed = sources / "minutes"
    followed.mkdir()
    (followed / "monday.txt").write_text("On Monday the board met.")
    page = visit.open(f"/documents/{make_collection(client, 'followed')}?tab=sources")
    page.get_by_role("button", name="Read a folder or a bucket").click()
    dialog = page.get_by_role("dialog", name="Read a folder or a bucket")
    dialog.get_by_label("Path").fill("/nowhere")
    dialog.get_by_role("button", name="Read now").click()
    expect(page.get_by_role("main")).to_contain_text("is not below a folder that the scheduler may read")

    page.get_by_role("button", name="Read a folder or a bucket").click()
    dialog.get_by_label("Path").fill(str(followed))
    dialog.get_by_label("Again every").fill("1h")
    dialog.get_by_label("Name of the schedule").fill("board-minutes")
    visit.check_accessibility(page)
    dialog.get_by_role("button", name="Follow").click()
    row = page.get_by_role("region", name="Followed sources").get_by_role("row", name=re.compile("minutes"))
    expect(row).to_contain_text("every 1h")
    expect(page.get_by_role("region", name="Recent ingestion")).to_contain_text("1 indexed")
    client.delete_schedule("board-minutes")
    page.get_by_role("link", name="Documents").last.click()
    page.get_by_role("link", name="minutes/monday.txt").click()
    expect(page.get_by_role("region", name="About the document")).to_contain_text(followed.as_uri())


def test_a_reader_finds_documents_and_nothing_that_changes_them(reader: Visit, archive: str) -> None:
    page = reader.open("/documents")
    page.get_by_role("link", name=archive).click()
    expect(document_names(page)).to_have_count(50)
    expect(page.get_by_role("button", name=re.compile("Delete|Upload|Choose|Settings|New"))).to_have_count(0)
    expect(page.get_by_role("checkbox")).to_have_count(1)
    page.get_by_role("link", name="box 0/letter 000.txt").click()
    expect(page.get_by_role("region", name="Passage 1", exact=True)).to_contain_text("Letter 0 is about lamp 0")
    expect(page.get_by_role("button", name=re.compile("Delete|Replace|Change"))).to_have_count(0)
    page.goto(f"/documents/{archive}?tab=versions")
    expect(page.get_by_role("row", name=re.compile("^v1"))).to_be_visible()
    expect(page.get_by_role("button", name="Re-index")).to_have_count(0)


@pytest.mark.parametrize("path", ["", "/archive", "/archive?tab=versions", "/archive?tab=sources"])
def test_the_pages_fit_a_phone_in_the_dark(phone: Visit, archive: str, path: str) -> None:
    page = phone.open(f"/documents{path}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("status")).to_have_count(0)
    phone.check_width(page)
    phone.check_accessibility(page)


def test_a_source_of_an_answer_opens_its_document_at_the_passage(visit: Visit, client: Client) -> None:
    page = visit.open(f"/ask?collection={make_collection(client, 'asked', tides=LONG)}")
    page.get_by_role("textbox", name="Question").fill("What does part 23 tell of?")
    page.keyboard.press("Enter")
    page.get_by_role("article").get_by_role("button", name="tides.txt").first.click()
    panel = page.get_by_role("complementary", name="Source 1")
    position = panel.get_by_text(re.compile(r"^Passage \d+$")).inner_text()
    # The panel scrolls to the passage once it is there, which a click must not meet halfway.
    expect(panel.get_by_role("region", name=position, exact=True)).to_be_visible()
    panel.get_by_role("link", name="tides.txt").click()
    expect(page).to_have_url(re.compile("/documents/"))
    expect(page.get_by_role("heading", name="tides.txt")).to_be_visible()
    expect(page.get_by_role("region", name=re.compile(r"^Passage \d")).first).to_have_accessible_name(position)
    page.get_by_role("button", name="Earlier passages").click()
    expect(page.get_by_role("region", name=position, exact=True)).to_be_visible()


def test_what_does_not_exist_is_said_in_words(visit: Visit, archive: str) -> None:
    visit.expected.append("404")
    page = visit.open("/documents/nowhere")
    expect(page.get_by_role("heading", name="There is no collection nowhere")).to_be_visible()
    page.goto(f"/documents/{archive}/{'0' * 32}")
    expect(page.get_by_role("heading", name="There is no such document")).to_be_visible()
