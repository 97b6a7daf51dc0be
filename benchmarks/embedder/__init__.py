"""The embedder's model against plain sentence-transformers. `python -m benchmarks.embedder --help`"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import suite
from benchmarks.embedder.process import CONTENDERS, Process
from benchmarks.embedder.showing import plot, table

__all__ = ["ABOUT", "TITLE", "VERSIONS", "add_arguments", "measure", "plot", "table"]

TITLE = "Embedder"
ABOUT = """\
all-MiniLM-L6-v2 on a CPU. Each contender runs in its own process, one at a time. *encode* is plain
`SentenceTransformer.encode` with its defaults: float32, 32 texts a batch, sorted by length. The others are the
embedder's model, without broker and HTTP, by backend and number format; *default* is what the embedder chooses for this
machine. Texts are cut from Sluice's documentation; of 2,000 characters the model reads the first 256 tokens. A *query*
is 60 characters, embedded alone. *Cosine* is the minimum between a passage's vector and that of *encode*. *nDCG@10* is
measured on the documentation: the queries are the example questions, whose answers are in known pages, and all
headings, each for the paragraphs below it. The difference between rows matters, not the absolute value.

*Cut into batches* uses the default, with texts of 40 to 2,000 characters in calls of 128, batched in other ways than
the embedder's. In *as a server*, clients each send one such text and wait for its vector. *Fixed batches* is a loop
that waits for 32 texts or 10 ms, then calls `encode` or, *same model*, the default contender."""
VERSIONS = ("sentence-transformers", "transformers", "openvino")

LENGTHS = (60, 200, 700, 2000)
BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
PLANS = ("by tokens, sorted", "by tokens, as they come", "32 texts, sorted", "32 texts, as they come")
CLIENTS = (1, 16, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS], default=[*CONTENDERS])
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS), help="characters of the texts")
    parser.add_argument("--seconds", type=float, default=0.6, help="time of one measurement, at least")
    parser.add_argument("--rounds", type=int, default=3)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.lengths = 1, 0.1, [200]
        arguments.only = [name for name in ("encode", "torch bfloat16", "default") if name in arguments.only]
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        processes = []
        for name in arguments.only:
            suite.say(f"loading {name}")
            processes.append(stack.enter_context(Process(name)))
        found: dict[str, Any] = {
            "load_seconds": {process.name: process.load_seconds for process in processes},
            "speed": _speed(processes, arguments),
            "memory_mib": {process.name: process.ask("memory") for process in processes},
            "quality": _quality(processes, Path(folder)),
        }
        by_name = {process.name: process for process in processes}
        if "default" in by_name:
            found["plans"] = _plans(by_name["default"], arguments)
            found["servers"] = _servers(by_name, arguments)
    return found


def _speed(processes: list[Process], arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """For each contender texts per second at each length, and milliseconds of a query."""
    seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, process in suite.interleave(processes, arguments.rounds):
        suite.say(f"round {number + 1}: {process.name}")
        for characters in arguments.lengths:
            rate = process.ask("bulk", characters=characters, seconds=arguments.seconds)
            seen[process.name][str(characters)].append(rate)
        took = process.ask("latency", count=50)
        seen[process.name]["query_p50_ms"].append(statistics.median(took))
        seen[process.name]["query_p99_ms"].append(statistics.quantiles(took, n=100)[98])
    return {name: {key: suite.spread(values) for key, values in kinds.items()} for name, kinds in seen.items()}


def _quality(processes: list[Process], folder: Path) -> dict[str, dict[str, float]]:
    """nDCG@10 of each contender, and the least cosine of its passages to those of the first."""
    found: dict[str, dict[str, float]] = {}
    first = None
    for process in processes:
        file = folder / "passages.npy"
        ndcg = process.ask("quality", file=str(file))
        vectors = np.load(file)
        first = vectors if first is None else first
        found[process.name] = {"ndcg": ndcg, "cosine": float((vectors * first).sum(1).min())}
    return found


def _plans(process: Process, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Texts per second by way of cutting, and of the embedder's own by its budget."""
    asked = [*((plan, plan, 0) for plan in PLANS), *((str(size), PLANS[0], size) for size in BUDGETS)]
    seen: dict[str, list[float]] = defaultdict(list)
    for _, (name, plan, budget) in suite.interleave(asked, arguments.rounds):
        seen[name].append(process.ask("planned", plan=plan, budget=budget, seconds=arguments.seconds))
    return {name: suite.spread(rates) for name, rates in seen.items()}


def _servers(processes: dict[str, Process], arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Texts per second and p50 and p99 of their latency, by way of serving and number of clients."""
    kinds = {
        "fixed batches": ("encode", "fixed"),
        "fixed batches, same model": ("default", "fixed"),
        "Sluice": ("default", "sluice"),
    }
    seen: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    asked = [(name, clients) for name in kinds if kinds[name][0] in processes for clients in CLIENTS]
    for _, (name, clients) in suite.interleave(asked, arguments.rounds):
        contender, loop = kinds[name]
        told = processes[contender].ask("serve", loop=loop, clients=clients, seconds=2 * arguments.seconds)
        seen[name, clients]["per_second"].append(told["per_second"])
        seen[name, clients]["p50_ms"].append(statistics.median(told["ms"]))
        seen[name, clients]["p99_ms"].append(statistics.quantiles(told["ms"], n=100)[98])
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for (name, clients), kind in seen.items():
        found[name][str(clients)] = {key: suite.spread(values) for key, values in kind.items()}
    return found
