"""Cold start and memory of each service. `python -m benchmarks.startup --help`"""

import argparse
import asyncio
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import suite
from benchmarks.startup.model_server import model_server
from benchmarks.startup.running import ASKED, Up, start
from tests.harness.broker import NatsServer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Cold start and memory of each service"
ABOUT = """\
Each service starts alone beside a running broker, as `python -m services.<name>` with its defaults. *Answers* is the
time from the start of its process until its port responds. *Ready* is the time until `/readyz` succeeds, which it does
once a canary has passed through each of its stages. The files are in the page cache and compiled to bytecode, as in an
image. The generator is started with the engine `extractive`, and with `openai` beside a small model server.

Memory is measured half a second after that. *RSS* is the process itself. *With children* adds the process in which the
scheduler reads documents, and counts shared pages once (PSS). *Unique* (USS) is what one more such process would take.
*Whole platform* is `sluice up` on a folder with 50 documents, from the start of its process to the answer to a question
that is sent as soon as the gateway listens. Its memory is measured before and after 1,000 such questions, 8 at a time.

The target is 1.5 s and 100 MB (95 MiB) for each service without a model or an index: gateway, scheduler, generator."""
VERSIONS = ("sentence-transformers", "pyarrow", "starlette")

SMALL = ("gateway", "scheduler", "generator", "generator, openai")
SERVICES = (*SMALL, "retriever", "embedder")
TARGET_SECONDS, TARGET_MIB = 1.5, 100e6 / 2**20
CONCURRENT = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=SERVICES, default=list(SERVICES), help="services to start alone")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each service alone")
    parser.add_argument("--up-rounds", type=int, default=3, help="starts of the whole platform")
    parser.add_argument("--questions", type=int, default=1000, help="questions between the two looks at memory")
    parser.add_argument("--settle", type=float, default=0.5, help="seconds between ready and the look at memory")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.rounds, arguments.up_rounds, arguments.questions = 1, 1, 100
    with tempfile.TemporaryDirectory() as folder:
        services = _services(Path(folder), arguments)
        return {"services": services, "platform": _platform(Path(folder) / "up", arguments)}


def _services(folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    with NatsServer(folder / "nats") as broker, model_server() as model_url:
        settings: dict[str, object] = {"nats_url": broker.url}
        start("scheduler", folder / "first", settings, 0)  # which makes the streams and buckets
        for number, name in suite.interleave(arguments.only, arguments.rounds):
            engine = {"engine": "openai", "openai_base_url": model_url} if name.endswith("openai") else {}
            run = start(name.partition(",")[0], folder / f"{number}-{name}", settings | engine, arguments.settle)
            suite.say(f"round {number + 1}: {name:<18}ready after {run['ready_s']:5.2f} s, {run['rss']:4.0f} MiB")
            runs[name].append(run)
    return {name: _spreads(runs[name]) for name in arguments.only}


def _platform(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    seconds: list[float] = []
    rest: dict[str, list[dict[str, float]]] = defaultdict(list)
    after: dict[str, list[dict[str, float]]] = defaultdict(list)
    up = Up(folder)
    for number in range(arguments.up_rounds):
        with up.ready() as url:
            seconds.append(up.seconds)
            suite.say(f"round {number + 1}: sluice up answers after {up.seconds:.2f} s")
            _look(up, rest)
            requests = suite.bodies(f"{url}/v1/query", itertools.repeat(ASKED, arguments.questions))
            load = asyncio.run(suite.load(url, requests, concurrent=CONCURRENT))
            assert not load.failed, f"{load.failed} questions were not answered"
            _look(up, after)
    return {
        "seconds": suite.spread(seconds),
        "rest": {name: _spreads(runs) for name, runs in rest.items()},
        "after": {name: _spreads(runs) for name, runs in after.items()},
    }


def _look(up: Up, runs: dict[str, list[dict[str, float]]]) -> None:
    for name, found in up.footprints().items():
        runs[name].append(found)


def _spreads(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {figure: suite.spread([run[figure] for run in runs]) for figure in runs[0]}


def table(results: dict[str, Any]) -> str:
    lines = ["| service, alone | answers s | ready s | CPU-s | RSS MiB | with children MiB | unique MiB | target |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---|")
    for name, run in results["services"].items():
        lines.append(
            f"| {name} | {suite.show(run['answers_s'], '.2f')} | {suite.show(run['ready_s'], '.2f')} "
            f"| {run['cpu_s']['median']:.2f} | {suite.show(run['rss'])} | {run['tree_pss']['median']:,.0f} "
            f"| {run['uss']['median']:,.0f} | {_verdict(name, run)} |"
        )
    platform = results["platform"]
    lines += ["", f"The whole platform answers {suite.show(platform['seconds'], '.1f')} s after `sluice up`.", ""]
    lines += ["| in the platform | RSS MiB at rest | after the questions | with children MiB at rest | after |"]
    lines.append("|---|---:|---:|---:|---:|")
    lines += [
        f"| {name} | {suite.show(rest['rss'])} | {suite.show(after['rss'])} "
        f"| {rest['tree_pss']['median']:,.0f} | {after['tree_pss']['median']:,.0f} |"
        for name, rest, after in _pairs(platform)
    ]
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    return [
        suite.Target(
            f"{name} ready within 1.5 s in 100 MB (95 MiB)",
            f"{run['ready_s']['median']:.2f} s, {run['rss']['median']:.0f} MiB",
            _verdict(name, run) == "met",
        )
        for name, run in results["services"].items()
        if name in SMALL
    ]


def _pairs(platform: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name, rest in platform["rest"].items():
        yield name, rest, platform["after"][name]


def _verdict(name: str, run: dict[str, Any]) -> str:
    if name not in SMALL:
        return ""
    met = run["ready_s"]["median"] <= TARGET_SECONDS and run["rss"]["median"] <= TARGET_MIB
    return "met" if met else "missed"


def plot(results: dict[str, Any], figure: "Figure") -> None:
    left, right = figure.subplots(1, 2)
    names = list(results["services"])
    for axes, key, target, title in (
        (left, "ready_s", TARGET_SECONDS, "ready, s"),
        (right, "rss", TARGET_MIB, "resident memory at rest, MiB"),
    ):
        values = [results["services"][name][key]["median"] for name in names]
        axes.barh(names, values, color=["C0" if name in SMALL else "0.6" for name in names])
        axes.axvline(target, color="C1", linestyle="--", linewidth=1, label="target of the blue ones")
        labels = axes.bar_label(axes.containers[0], fmt="%.2f" if key == "ready_s" else "%.0f", padding=4)
        for label in labels:
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_title(title)
    right.tick_params(labelleft=False)
    right.legend(loc="upper right")
