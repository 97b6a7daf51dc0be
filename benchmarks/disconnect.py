"""How soon the stages stop when clients disconnect: `python -m benchmarks.disconnect --help`"""

import argparse
import asyncio
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks import suite
from tests.harness.platform import Platform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Client disconnects"
ABOUT = """\
How soon the stages stop when their clients disconnect. A whole `sluice up` serves its own documentation. Clients send
queries all at once, half of them streaming, and disconnect together a moment later, before most are answered. *Idle
after* is the time from the disconnect until no stage has a query in progress. *Cancelled by a stage* counts the
queries that a stage stopped early, by the time from the disconnect to the end of the work in that stage, as
`sluice_stage_cancel_seconds` measures it."""

BUCKET = re.compile(r'sluice_stage_cancel_seconds_bucket\{lane="interactive",le="([^"]+)",stage="([^"]+)"[^}]*\} (\S+)')
OUTCOME = re.compile(r'sluice_stage_messages_total\{lane="interactive",outcome="([^"]+)",stage="([^"]+)"[^}]*\} (\S+)')
IN_FLIGHT = re.compile(r'sluice_stage_in_flight\{lane="interactive"[^}]*\} (\S+)')

COLLECTION = "docs"
STAGES = ("embedder", "retriever", "generator")
SHOWN = ("0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "+Inf")
"""Seconds; the last bucket holds all."""

Counts = dict[tuple[str, str], float]


async def metrics(client: httpx.AsyncClient, urls: list[str]) -> str:
    pages = await asyncio.gather(*(client.get(f"{url}/metrics") for url in urls))
    return "\n".join(page.text for page in pages)


def counts(pattern: re.Pattern[str], text: str) -> Counts:
    return {(stage, what): float(value) for what, stage, value in pattern.findall(text)}


def difference(before: Counts, after: Counts) -> Counts:
    return {key: value - before.get(key, 0.0) for key, value in after.items() if value > before.get(key, 0.0)}


async def hang_up(url: str, collection: str, clients: int, after: float) -> None:
    limits = httpx.Limits(max_connections=clients)
    client = httpx.AsyncClient(trust_env=False, timeout=60, limits=limits)

    async def ask(number: int) -> None:
        body = {
            "question": f"How are chunks cut in case {number}?",
            "collection": collection,
            "stream": number % 2 == 0,
        }
        await client.post(f"{url}/v1/query", json=body)

    tasks = [asyncio.create_task(ask(number)) for number in range(clients)]
    await asyncio.sleep(after)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()


async def _round(url: str, stages: list[str], clients: int, after: float) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        before = await metrics(client, stages)
        await hang_up(url, COLLECTION, clients, after)
        left = time.perf_counter()
        while sum(map(float, IN_FLIGHT.findall(await metrics(client, stages)))):
            pass
        idle = time.perf_counter() - left
        text = await metrics(client, stages)
    outcomes, within = Counter[str](), Counter[str]()
    for (_, outcome), number in difference(counts(OUTCOME, before), counts(OUTCOME, text)).items():
        outcomes[outcome] += int(number)
    for (_, le), number in difference(counts(BUCKET, before), counts(BUCKET, text)).items():
        within[le] += int(number)
    return {"idle_ms": idle * 1e3, "outcomes": dict(outcomes), "stopped_within_s": {le: within[le] for le in SHOWN}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--after", type=float, default=0.5, help="seconds until they hang up")
    parser.add_argument("--rounds", type=int, default=5)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds = 1 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory() as folder, Platform(Path(folder)) as sluice:
        client = sluice.client()
        client.create_collection(COLLECTION)
        client.wait(client.upload(COLLECTION, sorted((suite.ROOT / "docs").glob("*.md"))).id)
        urls = [service.url for name, service in sluice.state.services.items() if name in STAGES]
        runs = []
        for number in range(rounds):
            runs.append(asyncio.run(_round(sluice.url, urls, arguments.clients, arguments.after)))
            suite.say(f"{number + 1}: idle after {runs[-1]['idle_ms']:.0f} ms, {runs[-1]['outcomes']}")
    return {"clients": arguments.clients, "after_s": arguments.after, "rounds": runs}


def table(results: dict[str, Any]) -> str:
    runs = results["rounds"]
    bounds = [f"within {float(le) * 1e3:g} ms" for le in SHOWN[:-1]]
    lines = ["| clients | idle after, ms | cancelled by a stage | " + " | ".join(bounds) + " |"]
    lines.append("|---:|---:|---:|" + "---:|" * len(bounds))
    stopped = [sum(run["stopped_within_s"][le] for run in runs) for le in SHOWN]
    shares = [f"{number / stopped[-1]:.0%}" if stopped[-1] else "" for number in stopped[:-1]]
    idle = suite.show(suite.spread([run["idle_ms"] for run in runs]))
    lines.append(f"| {results['clients']} | {idle} | {stopped[-1]} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def plot(results: dict[str, Any], figure: "Figure") -> None:
    figure.set_size_inches(8.0, 3.0)
    axes = figure.subplots()
    stopped = [sum(run["stopped_within_s"][le] for run in results["rounds"]) for le in SHOWN]
    bounds = [f"{float(le) * 1e3:g}" for le in SHOWN[:-1]]
    axes.bar(bounds, [100 * number / (stopped[-1] or 1) for number in stopped[:-1]], 0.6)
    axes.set_ylim(0, 100)
    axes.set_xlabel("milliseconds after the client hung up")
    axes.set_ylabel("% of its queries stopped")
    axes.grid(visible=False, axis="x")


if __name__ == "__main__":
    suite.main()
