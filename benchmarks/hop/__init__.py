"""What one hop through the stage runtime costs: `python -m benchmarks.hop --help`"""

import argparse
import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks import page, suite
from benchmarks.hop.chains import Ask, running_chains
from benchmarks.programs.hop_stages import SYSTEMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Broker hop"
ABOUT = """\
The cost of one hop through the stage runtime, compared with the minimum that JetStream and nats-py need. The benchmark
runs chains of trivial stages, each stage its own process, on one nats-server. The rows are: nats-py alone (fetch,
publish with its acknowledgement, acknowledge); the stage runtime; and the runtime with one guarantee removed or added.
Removed are the event that tells the reader which worker has started, and the wait for the broker's acknowledgement,
without which a crash could lose the query. Added is the recording of every span. Microseconds per hop of throughput are
the time for all queries over queries times hops; those of latency are the median time of one query over hops. All costs
of client, broker and workers are included."""
VERSIONS = ("opentelemetry-sdk",)

LABELS = {
    "raw": "nats-py alone",
    "sluice": "the stage runtime",
    "no-progress": "without telling the reader which worker started",
    "no-store-ack": "without the broker's acknowledgement",
    "traced": "with every span recorded",
}
IN_FLIGHT = (1, 32, 128)
FIGURES = ("throughput_us_per_hop", "latency_us_per_hop", "queries_per_second")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hops", type=int, default=3)
    parser.add_argument("--queries", type=int, default=1000, help="queries per measurement; a quarter at 1 in flight")
    parser.add_argument("--repetitions", type=int, default=5)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.queries, arguments.repetitions = 200, 1
    return uvloop.run(_compare(arguments.hops, arguments.queries, arguments.repetitions))


async def _compare(hops: int, queries: int, repetitions: int) -> dict[str, Any]:
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    async with running_chains(hops) as asks:
        for ask in asks.values():
            await _one(ask, min(200, queries), 32, hops)  # warm
        for in_flight in IN_FLIGHT:
            for number, system in suite.interleave(SYSTEMS, repetitions):
                count = queries // 4 if in_flight == 1 else queries
                run = await _one(asks[system], count, in_flight, hops)
                runs.setdefault((system, in_flight), []).append(run)
                suite.say(
                    f"{number + 1}: {in_flight:>4} in flight, {system:<13}{run['throughput_us_per_hop']:6.0f} us/hop"
                )
    rows = [
        {"system": system, "in_flight": in_flight}
        | {figure: suite.spread([run[figure] for run in each]) for figure in FIGURES}
        for (system, in_flight), each in runs.items()
    ]
    return {"rows": sorted(rows, key=lambda row: (row["in_flight"], SYSTEMS.index(row["system"])))}


async def _one(ask: Ask, queries: int, in_flight: int, hops: int) -> dict[str, float]:
    turns = asyncio.Semaphore(in_flight)

    async def one() -> float:
        async with turns:
            return await ask()

    began = time.perf_counter()
    latencies = await asyncio.gather(*(one() for _ in range(queries)))
    took = time.perf_counter() - began
    return {
        "throughput_us_per_hop": took / queries / hops * 1e6,
        "latency_us_per_hop": statistics.median(latencies) / hops * 1e6,
        "queries_per_second": queries / took,
    }


def table(results: dict[str, Any]) -> str:
    levels = sorted({row["in_flight"] for row in results["rows"]})
    spans = {(row["system"], row["in_flight"]): row for row in results["rows"]}
    lines = ["| microseconds per hop, by queries in flight | " + " | ".join(map(str, levels)) + " |"]
    lines.append("|---|" + "---:|" * len(levels))
    for kind, figure in (("", "throughput_us_per_hop"), ("latency: ", "latency_us_per_hop")):
        for system in SYSTEMS:
            shown = [suite.show(spans[system, level][figure]) for level in levels]
            lines.append(f"| {kind}{LABELS[system]} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def plot(results: dict[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    levels = sorted({row["in_flight"] for row in results["rows"]})
    width = 0.8 / len(SYSTEMS)
    colours = dict(zip(sorted(SYSTEMS, key=lambda system: system != "sluice"), page.COLOURS, strict=False))
    for place, system in enumerate(SYSTEMS):
        rows = [row["throughput_us_per_hop"] for row in results["rows"] if row["system"] == system]
        medians = [row["median"] for row in rows]
        errors = [[row["median"] - row["min"] for row in rows], [row["max"] - row["median"] for row in rows]]
        at = [level + (place - (len(SYSTEMS) - 1) / 2) * width for level in range(len(levels))]
        look = {"color": colours[system], "error_kw": {"elinewidth": 0.8}}
        axes.bar(at, medians, width, yerr=errors, label=LABELS[system], **look)
    axes.set_xticks(range(len(levels)), [str(level) for level in levels])
    axes.set_xlabel("queries in flight")
    axes.set_ylabel("microseconds per hop")
    axes.grid(visible=False, axis="x")
    axes.legend()
