"""Serving models by the Open Inference Protocol: `python -m benchmarks.serving --help`"""

import argparse
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks import page, suite
from benchmarks.load import Response
from benchmarks.serving.contenders import CONTENDERS, EXPECTED, ModelContender, available
from benchmarks.serving.many_models import Shape, many_models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Serving models"
ABOUT = """\
A small ONNX model, asked by the Open Inference Protocol V2 over REST with JSON, one row of four numbers a request. Its
call takes some ten microseconds, so what is left is the server. *Sluice* is its gateway, its broker and one predictor,
three processes, with defaults: it stores each request on the broker, so that a predictor may die, and joins requests
into batches. *KServe* is its Python `ModelServer` with one worker, *MLServer* the server with its model in the same
process (`parallel_workers: 0`, its fastest), *Ray Serve* one deployment that joins requests with `serve.batch`. These
three answer from one process and keep no request. All call ONNX Runtime with its defaults. Clients ask in a closed
loop; each contender runs alone, in turns; the load runs on the same cores.

The second table is the repository: many registered models, of which few may be loaded, asked by a skewed load (Zipf)
through the gateway, with two predictors. One is killed with SIGKILL meanwhile and started again. *First use* are the
first requests to each model, which load it."""
VERSIONS = ("onnxruntime",)

LEVELS: Final = (1, 16, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS], help="contenders; none: all that are installed")
    parser.add_argument("--concurrency", nargs="+", type=int, default=list(LEVELS), help="clients that ask at once")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each contender")
    parser.add_argument("--models", type=int, default=500, help="models that are registered")
    parser.add_argument("--loaded", type=int, default=20, help="models that may be loaded")
    parser.add_argument("--requests", type=int, default=5000, help="requests to them")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.models, arguments.requests = 1, 0.5, 60, 300
    cells: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for number, name in suite.interleave(available(arguments.only), arguments.rounds):
        with CONTENDERS[name]() as contender:
            usage = suite.Usage(contender.pids)
            uvloop.run(_load(contender, 16, 0.5))
            for level in arguments.concurrency:
                before = usage.cpu_seconds()
                figures = uvloop.run(_load(contender, level, arguments.seconds)).summary()
                assert not figures["failed"], f"{name} failed {figures['failed']:.0f} requests"
                figures["cpu_per_1000"] = (usage.cpu_seconds() - before) / figures["answers"] * 1000
                cells[name, level].append(figures)
                suite.say(f"round {number + 1}: {name:<9}{level:>4} at once: {figures['per_second']:7.0f}/s")
    shape = Shape(models=arguments.models, loaded=arguments.loaded, requests=arguments.requests)
    return {
        "cells": [
            {"contender": name, "concurrent": level}
            | {figure: suite.spread([run[figure] for run in runs]) for figure in runs[0]}
            for (name, level), runs in cells.items()
        ],
        "many": uvloop.run(many_models(shape)),
    }


async def _load(contender: ModelContender, level: int, seconds: float) -> suite.Load:
    def right(response: Response) -> None:
        (output,) = response.json()["outputs"]
        assert all(abs(got - wanted) < 1e-5 for got, wanted in zip(output["data"], EXPECTED, strict=True)), output

    requests = (contender.request(number, streamed=False) for number in itertools.count())
    return await suite.load(contender.url, requests, concurrent=level, seconds=seconds, check=right)


def table(results: dict[str, Any]) -> str:
    lines = [
        "| clients | contender | requests/s | p50 ms | p99 ms | CPU-s per 1,000 |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    order = list(CONTENDERS)
    lines += [
        f"| {cell['concurrent']} | {CONTENDERS[cell['contender']].label} | {suite.show(cell['per_second'])} "
        f"| {cell['p50_ms']['median']:,.1f} | {cell['p99_ms']['median']:,.1f} | {cell['cpu_per_1000']['median']:.2f} |"
        for cell in sorted(results["cells"], key=lambda cell: (cell["concurrent"], order.index(cell["contender"])))
    ]
    many = results["many"]
    lines += [
        "",
        "| models, loaded at once | requests | found in memory | used before: p50 ms | p99 ms | first use: p50 ms "
        "| p99 ms | failed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        f"| {many['models']}, {many['loaded']} in each predictor | {many['requests']:,} | {many['hit_rate']:.1%} "
        f"| {many['warm_p50_ms']:,.1f} | {many['warm_p99_ms']:,.1f} | {many['cold_p50_ms']:,.1f} "
        f"| {many['cold_p99_ms']:,.1f} | {many['failed']} |",
    ]
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    many = results["many"]
    wanted = f"no failed request to {many['models']} models with room for {many['loaded']}, one predictor killed"
    found = f"{many['failed']} of {many['requests']:,}"
    return [suite.Target(wanted, found, not many["failed"])]


def plot(results: dict[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    for place, name in enumerate(name for name in CONTENDERS if any(c["contender"] == name for c in results["cells"])):
        cells = sorted((c for c in results["cells"] if c["contender"] == name), key=lambda cell: cell["concurrent"])
        levels = [cell["concurrent"] for cell in cells]
        rates = [cell["per_second"]["median"] for cell in cells]
        axes.plot(levels, rates, "o-", label=CONTENDERS[name].label, color=page.COLOURS[place])
    axes.set_xscale("log", base=4)
    axes.set_xticks(LEVELS, [str(level) for level in LEVELS])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("clients")
    axes.set_ylabel("requests per second")
    axes.legend()
