"""How quick the lists of the console are over a large platform: `python -m benchmarks.lists --help`"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import nats
from playwright.sync_api import expect

from benchmarks import suite
from shared.contracts.documents import Document, document_id
from shared.contracts.jobs import Job, JobOptions, JobState, SwitchSpec
from shared.nats.kv import Repository
from shared.nats.subjects import JOB_STATUS
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.jobs.store import fresh_job
from tests.harness.browser import Visit, open_browser
from tests.harness.platform import Platform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Lists of the console"
VERSIONS = ("playwright",)
ABOUT = """\
A whole `sluice up` with 100,000 documents in one collection and 5,000 jobs, whose records are written straight to the
broker. One client asks for the pages that the console asks for, 30 times each, in turn; the first look at a list, for
which the gateway reads all its records, is shown apart. Then Chromium opens both pages five times: the time is that
from the address to the first row of the list, with all that the page loads."""

DOCUMENTS: Final = 100_000
JOBS: Final = 5_000
COLLECTION: Final = "large"
AT_ONCE: Final = 200
LOOKS: Final = 30
VISITS: Final = 5
PAGE: Final = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--jobs", type=int, default=JOBS)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    documents, jobs = (2_000, 500) if arguments.quick else (arguments.documents, arguments.jobs)
    with tempfile.TemporaryDirectory() as folder, Platform(Path(folder), log_level="WARNING") as up:
        up.client().create_collection(COLLECTION)
        suite.say(f"writing {documents:,} documents and {jobs:,} jobs")
        asyncio.run(_fill((up.data / "nats.url").read_text().strip(), documents, jobs))
        suite.say("asking for pages")
        first, later = _requests(up.url, documents)
        visits = _visits(up.url, jobs)
    return {"documents": documents, "jobs": jobs, "first": first, "later": later, "visits": visits}


async def _fill(url: str, documents: int, jobs: int) -> None:
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    collection = await Collections(jetstream).get("default", COLLECTION)
    records, entries = Documents(jetstream), Repository(jetstream, JOB_STATUS, Job.model_validate_json)

    async def document(number: int) -> None:
        name = _name(number)
        record = Document(
            id=document_id(name), name=name, sha256="0" * 64, bytes=4000, chunks=5, indexed_at=1e9, revision=1, job="j"
        )
        await records.put(collection.table, record, owner=collection.owner)

    async def job(number: int) -> None:
        spec = SwitchSpec(collection=COLLECTION)
        fresh = fresh_job(spec, job=_id(number), tenant="default", options=JobOptions(), created_at=1e9 + number)
        state = JobState.FAILED if number % 10 == 0 else JobState.SUCCEEDED
        await entries.put(f"default.{fresh.id}", fresh.model_copy(update={"state": state, "finished_at": 2e9}))

    for write, count in ((document, documents), (job, jobs)):
        for start in range(0, count, AT_ONCE):
            await asyncio.gather(*(write(number) for number in range(start, min(count, start + AT_ONCE))))
    await connection.close()


def _name(number: int) -> str:
    return f"folder/{number:06}.md"


def _id(number: int) -> str:
    return f"j{number:06}"


def _requests(url: str, documents: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The milliseconds of each list's first look, and of each later one."""
    listed = f"/v1/collections/{COLLECTION}/documents?limit={PAGE}"
    paths = {
        "documents": listed,
        "documents, a page in the middle": f"{listed}&after={_name(documents // 2)}",
        "documents whose names hold a text": f"{listed}&text=99.md",
        "jobs": f"/v1/jobs?limit={PAGE}",
        "jobs that have failed": f"/v1/jobs?limit={PAGE}&state=failed",
        "jobs of one kind and collection": f"/v1/jobs?limit={PAGE}&kind=switch&collection={COLLECTION}",
    }
    first: dict[str, float] = {}
    later: dict[str, list[float]] = {name: [] for name in paths}
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as http:
        for look in range(LOOKS + 1):
            for name, path in paths.items():
                began = time.perf_counter()
                response = http.get(path)
                took = 1e3 * (time.perf_counter() - began)
                body = response.raise_for_status().json()
                rows = len(body["documents" if name.startswith("documents") else "jobs"])
                if not rows:
                    raise SystemExit(f"{path} has no rows")
                if look:
                    later[name].append(took)
                elif name in ("documents", "jobs"):
                    first[name] = took
    return first, later


def _visits(url: str, jobs: int) -> dict[str, list[float]]:
    """The milliseconds from the address to the first row, in a window of its own each time."""
    rows = {f"/documents/{COLLECTION}": ("documents", _name(0)), "/jobs": ("jobs", _id(jobs - 1))}
    found: dict[str, list[float]] = {name: [] for name, _ in rows.values()}
    with open_browser() as browser:
        for _ in range(VISITS):
            for path, (name, row) in rows.items():
                visit = Visit.begin(browser, url)
                began = time.perf_counter()
                page = visit.open(path)
                expect(page.get_by_role("row").filter(has_text=row)).to_be_visible()
                found[name].append(1e3 * (time.perf_counter() - began))
                visit.context.close()
    return found


def table(results: dict[str, Any]) -> str:
    lines = ["| list | first look, ms | p50, ms | p95, ms |", "|---|---:|---:|---:|"]
    for name, times in results["later"].items():
        ordered = sorted(times)
        first = f"{results['first'][name]:,.0f}" if name in results["first"] else ""
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        lines.append(f"| {name} | {first} | {statistics.median(ordered):,.1f} | {p95:,.1f} |")
    for name, times in results["visits"].items():
        lines.append(f"| {name}, in Chromium | | {statistics.median(times):,.0f} | {max(times):,.0f} (highest) |")
    lines += ["", f"{results['documents']:,} documents, {results['jobs']:,} jobs."]
    return "\n".join(lines)


def plot(results: dict[str, Any], figure: "Figure") -> None:
    axis = figure.subplots()
    later = results["later"]
    axis.boxplot(list(later.values()), orientation="horizontal", tick_labels=list(later), showfliers=False)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("milliseconds a page")


if __name__ == "__main__":
    suite.main()
