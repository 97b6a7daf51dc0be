"""Jobs in the console: their list, one of them, pipelines, evaluations, schedules and dead letters."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from sluice import Client
from sluice.api.jobs import Job
from tests.harness.browser import Visit
from tests.harness.platform import Platform, eventually

HOSTILE: Final = "<img src=x onerror='window.__owned = 1'> \u202eevil"
ENDED: Final = ("succeeded", "failed", "cancelled")


def command(program: str) -> dict[str, Any]:
    return {"kind": "command", "command": [sys.executable, "-u", "-c", program]}


def ended(client: Client, job: Job) -> Job:
    def has_ended() -> bool:
        return str(client.job(job.id).state) in ENDED

    eventually(has_ended, f"the end of {job.id}")
    return client.job(job.id)


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def test_a_running_job_is_followed_and_cancelled(visit: Visit, client: Client) -> None:
    endless = "import time\nprint('::progress:: 3/10')\nprint('warming up')\ntime.sleep(600)"
    job = client.submit_job(command(endless), by="ann")
    page = visit.open(f"/jobs/{job.id}")
    state = section(page, "State")
    expect(state).to_contain_text("warming up")
    expect(state.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "30")
    visit.check_accessibility(page)
    page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("wrong folder")
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(dialog).to_have_count(0)
    expect(state).to_contain_text("cancelled")
    expect(section(page, "Events")).to_contain_text("wrong folder")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert client.job(job.id).state == "cancelled"


def test_why_a_job_failed_is_said_as_text_in_the_list_and_on_its_page(visit: Visit, client: Client) -> None:
    program = f"import sys\nprint('reading the corpus')\nprint({HOSTILE!r}, file=sys.stderr)\nsys.exit(3)"
    job = ended(client, client.submit_job(command(program), by=f"bob {HOSTILE}"))
    page = visit.open("/jobs?state=failed&kind=command")
    row = page.get_by_role("row").filter(has_text=job.id)
    expect(row).to_contain_text("exit code 3")
    row.get_by_role("link", name="Command").click()
    alert = section(page, "State").get_by_role("alert")
    expect(alert).to_contain_text("exit code 3")
    expect(alert).to_contain_text("<img src=x")
    expect(section(page, "Log")).to_contain_text("reading the corpus")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download log.txt").click()
    assert "reading the corpus" in Path(download.value.path()).read_text()
    assert page.evaluate("() => window.__owned") is None


def test_a_failed_job_is_retried(visit: Visit, client: Client, sources: Path) -> None:
    mended = sources / "mended"
    job = ended(
        client, client.submit_job(command(f"import pathlib, sys\nsys.exit(not pathlib.Path({str(mended)!r}).exists())"))
    )
    page = visit.open(f"/jobs/{job.id}")
    mended.touch()
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(section(page, "State")).to_contain_text("succeeded")
    expect(section(page, "Events")).to_contain_text("try 2")


@pytest.fixture(scope="module")
def pipeline(client: Client) -> Job:
    say = "print('::output:: {\"loss\": 0.25}')"
    steps = {
        "load": {"job": command(say)},
        "train": {"job": command("print(${{ load.loss }})")},
        "check": {"needs": ["load"], "job": command("import sys\nprint('too few rows', file=sys.stderr)\nsys.exit(4)")},
        "publish": {"needs": ["train", "check"], "job": command("pass")},
    }
    return ended(client, client.submit_job({"kind": "pipeline", "name": "training", "steps": steps}, by="ann"))


def test_a_pipeline_is_a_graph_and_a_table_whose_steps_open(visit: Visit, pipeline: Job) -> None:
    page = visit.open(f"/jobs/{pipeline.id}")
    steps = section(page, "Steps")
    expect(steps.locator(".graph .node")).to_have_count(4)
    expect(steps.locator(".graph .edge")).to_have_count(4)
    publish = steps.get_by_role("row").filter(has_text="publish")
    expect(publish).to_contain_text("skipped")
    expect(publish).to_contain_text("the pipeline ended before its turn")
    steps.locator(".graph .node.failed").click()
    opened = page.get_by_role("region", name="Step check")
    expect(opened.get_by_role("alert")).to_contain_text("too few rows")
    expect(opened).to_contain_text("command")
    load = steps.get_by_role("button", name="load")
    load.focus()
    page.keyboard.press("Enter")
    opened = page.get_by_role("region", name="Step load")
    expect(opened).to_contain_text("loss")
    expect(opened).to_contain_text("0.25")
    visit.check_accessibility(page)


def test_a_pipeline_on_a_phone_in_the_dark(phone: Visit, pipeline: Job) -> None:
    page = phone.open(f"/jobs/{pipeline.id}?step=check")
    expect(page.get_by_role("region", name="Step check").get_by_role("alert")).to_contain_text("too few rows")
    phone.check_width(page)
    width, room = page.evaluate(
        "() => { const f = document.querySelector('.graph'); return [f.scrollWidth, f.clientWidth]; }"
    )
    assert width <= room, "the graph does not fit"
    phone.check_accessibility(page)


def test_a_list_of_several_pages(visit: Visit, client: Client) -> None:
    spec = {"kind": "switch", "collection": "nowhere"}
    jobs = [client.submit_job(spec, by=f"person {number}") for number in range(55)]
    page = visit.open("/jobs?collection=nowhere")
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(1 + 50)
    expect(rows.nth(1)).to_contain_text(jobs[-1].id)
    page.get_by_role("button", name="Older").click()
    expect(rows).to_have_count(1 + 5)
    expect(rows.last).to_contain_text(jobs[0].id)
    expect(page.get_by_role("button", name="Older")).to_be_disabled()
    page.get_by_role("button", name="Newer").click()
    expect(rows).to_have_count(1 + 50)
    page.get_by_label("State").select_option("Queued")
    expect(page.get_by_role("heading", name="No job matches")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page).to_have_url(re.compile(r"/jobs$"))
    visit.check_accessibility(page)


def test_the_list_on_a_phone_in_the_dark(phone: Visit, pipeline: Job) -> None:
    page = phone.open("/jobs?kind=pipeline&steps=shown")
    expect(page.get_by_role("table")).to_contain_text(pipeline.id)
    phone.check_width(page)
    phone.check_accessibility(page)


def test_a_job_is_started_by_the_form_and_the_gateway_says_what_is_wrong(visit: Visit, client: Client) -> None:
    page = visit.open("/jobs/new?kind=pipeline")
    broken = {"kind": "pipeline", "name": "p", "steps": {"score": {"when": "lost.mrr > 0", "job": {"kind": "nothing"}}}}
    visit.expected.append("422")
    field = page.get_by_label("Spec as JSON")
    field.fill("{")
    expect(page.get_by_role("button", name="Start")).to_be_disabled()
    field.fill(json.dumps(broken))
    page.get_by_role("button", name="Start").click()
    faults = page.locator(".faults")
    expect(faults).to_contain_text("steps.score.when")
    expect(faults).to_contain_text("steps.score.job.kind")
    page.get_by_label("Kind").select_option("Switch version")
    page.get_by_label("Collection").fill("elsewhere")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Switch version: elsewhere")).to_be_visible()
    expect(section(page, "State")).to_contain_text("elsewhere")
    visit.check_accessibility(page)


def test_a_dead_letter_is_replayed_and_another_discarded(visit: Visit, client: Client, sources: Path) -> None:
    mended = sources / "there"
    program = f"import pathlib, sys\nsys.exit(0 if pathlib.Path({str(mended)!r}).exists() else 75)"
    first, second = (ended(client, client.submit_job(command(program), retry={"limit": 1})) for _ in range(2))
    mended.touch()
    page = visit.open("/jobs/dead-letters")
    letters = section(page, "Dead letters")
    newest = letters.get_by_role("listitem").first
    newest.get_by_role("button").first.click()
    opened = newest.get_by_role("region")
    expect(opened).to_contain_text(second.id)
    expect(opened.get_by_label("Message")).to_contain_text("sys.exit")
    visit.check_accessibility(page)
    opened.get_by_role("button", name="Replay").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(page.get_by_role("status").filter(has_text="on its queue again")).to_be_visible()
    expect(letters).not_to_contain_text(second.id)
    eventually(lambda: client.job(second.id).state == "succeeded", "the replayed job")
    newest.get_by_role("button").first.click()
    expect(newest.get_by_role("region")).to_contain_text(first.id)
    newest.get_by_role("button", name="Discard").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(letters).not_to_contain_text(first.id)
    assert first.id not in [letter.job for letter in client.dead_letters()]


def test_a_schedule_is_made_run_paused_and_deleted(visit: Visit, client: Client) -> None:
    page = visit.open("/jobs/schedules/new")
    visit.check_accessibility(page)
    page.get_by_label("Name").fill("hourly")
    page.get_by_label("At an interval").check()
    page.get_by_label("Every").fill("soon")
    page.get_by_label("Kind").select_option("Switch version")
    page.get_by_label("Collection").fill("elsewhere")
    visit.expected.append("422")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".faults")).to_contain_text("every")
    page.get_by_label("Every").fill("1h")
    page.get_by_role("button", name="Create").click()
    row = page.get_by_role("row").filter(has_text="hourly")
    expect(row).to_contain_text("every 1h")
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    row.get_by_role("button", name="Resume").click()
    expect(row).not_to_contain_text("paused")
    row.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("heading", name="Switch version: elsewhere")).to_be_visible()
    page.go_back()
    row.get_by_role("button", name="Delete hourly").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="There are no schedules")).to_be_visible()
    assert client.schedules() == []


@pytest.fixture(scope="module")
def evaluations(client: Client) -> tuple[Job, Job]:
    """Two evaluations of one collection; the second was compared with the first."""
    client.create_collection("judged")
    texts = {
        f"{name}.md": f"The {name} stands {number} metres from the quay."
        for number, name in enumerate(("crane", "shed", "lamp"))
    }
    assert client.wait(client.add_texts("judged", texts).id, timeout=120).state == "succeeded"
    questions = [{"question": f"How far is the {name[:-3]} from the quay?", "sources": [name]} for name in texts]
    client.put_artifact("judged/questions.jsonl", "\n".join(map(json.dumps, questions)).encode())
    spec = {"kind": "evaluate", "collection": "judged", "input": "judged/questions.jsonl"}
    first = ended(client, client.submit_job(spec))
    second = ended(client, client.submit_job({**spec, "baseline": f"{first.id}/report.json"}))
    assert (first.state, second.state) == ("succeeded", "succeeded")
    return first, second


def test_an_evaluation_shows_its_figures_and_another_run_beside_them(
    visit: Visit, evaluations: tuple[Job, Job]
) -> None:
    first, second = evaluations
    page = visit.open(f"/jobs/{second.id}")
    report = section(page, "Report")
    expect(report.get_by_role("row").filter(has_text="MRR")).to_contain_text("1.000 [1.000, 1.000]")
    expect(report.get_by_role("img")).to_be_visible()
    report.get_by_label("Compare with another run").select_option(first.id)
    expect(report.get_by_role("row").filter(has_text="MRR")).to_contain_text("+0.000 [+0.000, +0.000]")
    expect(report.get_by_role("link", name="Other run")).to_have_attribute("href", f"/jobs/{first.id}")
    visit.check_accessibility(page)


def test_a_version_that_a_gate_refused_is_switched_to_by_hand_and_back(
    visit: Visit, client: Client, evaluations: tuple[Job, Job]
) -> None:
    steps = {
        "build": {
            "job": {"kind": "reindex", "collection": "judged", "version": "narrow", "chunk_tokens": 64, "switch": False}
        },
        "score": {
            "job": {
                "kind": "evaluate",
                "collection": "judged",
                "input": "judged/questions.jsonl",
                "version": "${{ build.version }}",
            }
        },
        "go": {
            "when": "score.mrr > 1.5",
            "job": {"kind": "switch", "collection": "judged", "version": "${{ build.version }}"},
        },
    }
    job = ended(client, client.submit_job({"kind": "pipeline", "name": "gated", "steps": steps}))
    page = visit.open(f"/jobs/{job.id}")
    decision = page.get_by_role("note", name="Decision")
    expect(decision).to_contain_text("narrow did not pass")
    expect(decision).to_contain_text("score.mrr > 1.5")
    visit.check_accessibility(page)
    decision.get_by_role("button", name="Switch anyway").click()
    page.get_by_role("dialog").get_by_role("button", name="Switch").click()
    expect(page.get_by_role("heading", name="Switch version: judged")).to_be_visible()
    expect(section(page, "State")).to_contain_text("succeeded")
    assert client.collection("judged").version == "narrow"


@pytest.fixture
def reader(browser: Browser, platform: Platform, client: Client) -> Iterator[Visit]:
    """A window of a person whose key only reads, and sees every document: who does not is not shown the admin's jobs
    where the tenant has documents with lists."""
    key = client.create_key("reader", actions=["read"], principals=["*"])
    visit = Visit.begin(browser, platform.url)
    visit.sign_in(str(key.secret))
    yield visit
    visit.check()
    visit.context.close()


def test_who_only_reads_sees_jobs_and_starts_none(reader: Visit, pipeline: Job) -> None:
    page = reader.open("/jobs?kind=pipeline")
    expect(page.get_by_role("table")).to_contain_text(pipeline.id)
    expect(page.get_by_role("link", name="Start a job")).to_have_count(0)
    expect(page.get_by_role("link", name="Dead letters")).to_have_count(0)
    page.goto(f"/jobs/{pipeline.id}")
    expect(section(page, "Steps")).to_contain_text("train")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
