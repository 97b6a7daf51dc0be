"""What nine tenants that flood cost a quiet one: `python -m benchmarks.fairness --help`"""

import argparse
import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks import suite
from benchmarks.growth.clients import QueryClient, flood, paced
from benchmarks.growth.platform import SLOW_MS, Platform, running
from benchmarks.load import percentile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Fairness"
ABOUT = """\
What tenants that flood cost a quiet one. The quiet tenant asks four times a second; nine others keep 16 questions each
in work, many times what the stages can do. A real gateway and broker; the stages are constant: the slow one works for
50 ms, on four questions at once, so the figures show the order of the queries more than the machine.
*First in, first out* lets every query into the queues of the stages at once. *Fair* has a window of a quarter more than
the questions that the slow stage works on. The quiet tenant begins two seconds after the others; its times count from
the moment at which each question was due."""

TENANTS: Final = 9
CLIENTS: Final = 16
PER_SECOND: Final = 4
ROOM: Final = 4
REPLICAS: Final = 1
PIPELINE: Final = "slow-generate"
PLACES: Final = ROOM * REPLICAS

WINDOWS: Final = {"first in, first out": (100_000, 0), "fair": (PLACES + PLACES // 4, PLACES // 4)}
"""Places in flight, and spare ones."""

LEAD: Final = 2.0
"""Seconds by which the flood is ahead."""

BOUND: Final = 2.0
"""Times its p99 alone that a tenant's p99 may be beside the others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3)


async def _measure(platform: Platform, flooded: bool, seconds: float) -> dict[str, Any]:
    quiet = QueryClient(platform.url, platform.request(0, PIPELINE))
    more = [QueryClient(platform.url, platform.request(0, PIPELINE)) for _ in range(PER_SECOND - 1)]
    others = [
        QueryClient(platform.url, platform.request(1 + number % TENANTS, PIPELINE))
        for number in range(TENANTS * CLIENTS if flooded else 0)
    ]
    seen: list[float] = []
    began = time.perf_counter()
    until = began + LEAD + seconds
    clients = [quiet, *more]
    due = [paced(ask, 1.0, until, LEAD + number / PER_SECOND, seen) for number, ask in enumerate(clients)]
    failed, floods = await asyncio.gather(asyncio.gather(*due), asyncio.gather(*(flood(a, until) for a in others)))
    took = time.perf_counter() - began
    for client in (*clients, *others):
        client.close()
    return {
        "flooded": flooded,
        "answers": len(seen),
        "failed": sum(failed),
        "p50_ms": percentile(seen, 0.5) * 1e3,
        "p99_ms": percentile(seen, 0.99) * 1e3,
        "others_per_second": sum(answers for answers, _ in floods) / took,
    }


async def _all(seconds: float, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, (window, spare) in WINDOWS.items():
        with running(query_window=window, query_spare=spare) as platform:
            for _ in range(REPLICAS):
                platform.add(ROOM)
            await platform.add_tenants(TENANTS + 1)
            for _, flooded in suite.interleave((False, True), rounds):
                rows.append({"order": name} | await _measure(platform, flooded, seconds))
                suite.say(f"{name}, {'flooded' if flooded else 'alone'}: p99 {rows[-1]['p99_ms']:.0f} ms")
    return rows


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds, rounds = (4.0, 1) if arguments.quick else (arguments.seconds, arguments.rounds)
    return {"slow_ms": SLOW_MS, "rows": asyncio.run(_all(seconds, rounds))}


def _of(results: dict[str, Any], order: str, flooded: bool, figure: str) -> dict[str, float]:
    chosen = [row[figure] for row in results["rows"] if (row["order"], row["flooded"]) == (order, flooded)]
    return suite.spread(chosen)


def _ratio(results: dict[str, Any], order: str) -> float:
    return _of(results, order, True, "p99_ms")["median"] / _of(results, order, False, "p99_ms")["median"]


def table(results: dict[str, Any]) -> str:
    lines = ["| order | alone, p50 ms | alone, p99 ms | flooded, p50 ms | flooded, p99 ms | p99, times | others/s |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for order in WINDOWS:
        cells = [
            suite.show(_of(results, order, flooded, figure))
            for flooded in (False, True)
            for figure in ("p50_ms", "p99_ms")
        ]
        others = suite.show(_of(results, order, True, "others_per_second"))
        lines.append(f"| {order} | {' | '.join(cells)} | {_ratio(results, order):.1f} | {others} |")
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    found = _ratio(results, "fair")
    wanted = f"a quiet tenant's p99 beside nine that flood is at most {BOUND:g} times its p99 alone"
    return [suite.Target(wanted, f"{found:.1f} times", found <= BOUND)]


def plot(results: dict[str, Any], figure: "Figure") -> None:
    figure.set_size_inches(8.0, 3.0)
    axes = figure.subplots()
    for place, flooded in enumerate((False, True)):
        heights = [_of(results, order, flooded, "p99_ms")["median"] for order in WINDOWS]
        label = "beside nine tenants that flood" if flooded else "alone"
        axes.bar([number + 0.4 * place - 0.2 for number in range(len(WINDOWS))], heights, 0.4, label=label)
    axes.set_xticks(range(len(WINDOWS)), list(WINDOWS))
    axes.set_yscale("log")
    axes.set_ylabel("p99 of the quiet tenant, ms")
    axes.legend()
    axes.grid(visible=False, axis="x")


if __name__ == "__main__":
    suite.main()
