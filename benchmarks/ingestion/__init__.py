"""Real documents through the real platform, beside LlamaIndex and Haystack. `python -m benchmarks.ingestion --help`"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

from benchmarks import suite
from benchmarks.embedder.process import Process
from benchmarks.ingestion.contenders import PEER_MODULES, Ingested, Peer, Sluice, asked
from services.scheduler.ingestion.reader.reader import DocumentReader
from tests.harness.platform import Platform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Real pipeline: ingestion and answers"
ABOUT = """\
The documents are the chapters of Python's language reference that come with Python as help topics, as text files. They
are cut into chunks of 256 tokens with 32 of overlap, embedded with all-MiniLM-L6-v2 on the CPU and stored. *Sluice* is
`sluice up` with its defaults, over HTTP: from the upload until the job has succeeded, when everything is durable and
searchable. *LlamaIndex* is an `IngestionPipeline` with `SentenceSplitter` and the model's tokenizer, into LanceDB on
disk. *Haystack* is a `Pipeline` into its in-memory store; it cuts by words, as many as give chunks of that size. Both
run in their own process with the model loaded, with their default settings and 32 texts a batch. They compute in
float32 on PyTorch; Sluice's embedder uses what it chooses for the machine (see *Embedder*).

*Embedder alone* is Sluice's embedding model, in a process without broker and HTTP, with all of Sluice's chunks in one
call. *Share* is the share of its chunks per second that Sluice as a whole delivers, in the same round. *CPU* is what
the services used for one ingestion. *Answers* are to sequential questions, each with the vector of its question, a
hybrid search and an extractive answer; *stages* is the work time of each stage, and *query alone* that of the embedding
model by itself. The target is a share of 90 % or more."""
VERSIONS = ("sentence-transformers", "transformers", "openvino")

PEER_PACKAGES = ("llama-index-core", "llama-index-vector-stores-lancedb", "haystack-ai", "sentence-transformers")
QUESTION = "What does Python's reference say about {}?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--documents", type=int, default=len(topics), help="files, of all that there are")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=200, help="questions of a round")
    parser.add_argument("--no-peers", action="store_true", help="Sluice and its embedding model alone")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.documents, arguments.rounds, arguments.questions = 12, 1, 40
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = _write(folder / "documents", arguments.documents)
        texts = folder / "chunks.json"
        texts.write_text(json.dumps(asyncio.run(_chunks(files))))
        alone = stack.enter_context(Process("default"))
        sluice = Sluice(stack.enter_context(Platform(folder / "platform")), files)
        contenders: dict[str, Callable[[], Ingested]] = {"Sluice": sluice.ingest}
        if not arguments.no_peers and suite.peers_python():
            for name in PEER_MODULES:
                peer = Peer(name, files[0].parent, folder / f"{name}.log")
                contenders[name] = stack.enter_context(peer).ingest
        found = _rounds(arguments, sluice, alone, contenders, str(texts))
    size = sum(map(len, list(topics.values())[: arguments.documents]))
    return found | {"documents": arguments.documents, "bytes": size}


def _write(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    files = []
    for name, text in list(topics.items())[:count]:
        files.append(folder / f"{name}.txt")
        files[-1].write_text(text)
    return files


async def _chunks(files: Sequence[Path]) -> list[str]:
    """The chunks that Sluice makes of the files."""
    async with DocumentReader(workers=2) as reader:
        read = [await reader.read(file.name, file) for file in files]
    return [chunk.text for document in read for chunk in document.chunks]


def _rounds(
    arguments: argparse.Namespace,
    sluice: Sluice,
    alone: Process,
    contenders: dict[str, Callable[[], Ingested]],
    texts: str,
) -> dict[str, Any]:
    rates: dict[str, list[float]] = defaultdict(list)
    runs: dict[str, list[Ingested]] = defaultdict(list)
    answers: dict[str, list[float]] = defaultdict(list)
    questions = [QUESTION.format(name.lower()) for name in topics]
    questions = [questions[n % len(questions)] for n in range(arguments.questions)]
    sluice.ingest()  # warm, and to be asked
    for number, name in suite.interleave([*contenders, "Embedder alone"], arguments.rounds):
        if name == "Embedder alone":
            rates[name].append(alone.ask("once", file=texts))
            answers["query alone"].append(statistics.median(alone.ask("latency", count=arguments.questions)))
        else:
            runs[name].append(run := contenders[name]())
            rates[name].append(run.chunks / run.seconds)
        suite.say(f"round {number + 1}: {name:<20}{rates[name][-1]:7.1f} chunks/s")
        if name == "Sluice":
            for kind, value in _answers(sluice, questions).items():
                answers[kind].append(value)
    shares = [whole / model for whole, model in zip(rates["Sluice"], rates["Embedder alone"], strict=True)]
    return {
        "chunks_per_second": {name: suite.spread(values) for name, values in rates.items()},
        "seconds": {name: suite.spread([run.seconds for run in each]) for name, each in runs.items()},
        "chunks": {name: each[0].chunks for name, each in runs.items()},
        "share": suite.spread(shares),
        "cpu_seconds": {
            service: suite.spread([run.cpu_seconds[service] for run in runs["Sluice"]])
            for service in runs["Sluice"][0].cpu_seconds
        },
        "answers_ms": {kind: suite.spread(values) for kind, values in answers.items()},
    }


def _answers(sluice: Sluice, questions: Sequence[str]) -> dict[str, float]:
    """p50 and p99 of the whole, and the p50 of each stage's work."""
    whole: list[float] = []
    stages: dict[str, list[float]] = defaultdict(list)
    for took, worked in asked(sluice.url, sluice.collection, questions):
        whole.append(took)
        for stage, value in worked.items():
            stages[stage].append(value)
    each = {stage: statistics.median(values) for stage, values in stages.items()}
    return {"p50": statistics.median(whole), "p99": statistics.quantiles(whole, n=100)[98], **each}


def table(results: dict[str, Any]) -> str:
    show = suite.show
    lines = [
        f"| {results['documents']} documents, {results['bytes'] / 1e3:,.0f} kB | chunks | seconds | documents/s "
        "| chunks/s | Sluice is faster by |",
        "|---|---|---|---|---|---|",
    ]
    ours = results["seconds"]["Sluice"]["median"]
    for name, seconds in results["seconds"].items():
        lines.append(
            f"| {name} | {results['chunks'][name]:,} | {show(seconds, '.1f')} | "
            f"{results['documents'] / seconds['median']:.1f} | {show(results['chunks_per_second'][name])} | "
            f"{'' if name == 'Sluice' else format(seconds['median'] / ours, '.1f') + ' x'} |"
        )
    alone = results["chunks_per_second"]["Embedder alone"]
    lines.append(f"| Embedder alone | {results['chunks']['Sluice']:,} | | | {show(alone)} | |")
    share = results["share"]
    cpu = ", ".join(f"{name} {spent['median']:.2f}" for name, spent in results["cpu_seconds"].items())
    stages = results["answers_ms"]
    own = ("p50", "p99", "query alone")
    worked = ", ".join(f"{name} {value['median']:.1f}" for name, value in stages.items() if name not in own)
    alone_ms = show(stages["query alone"], ".1f")
    return "\n".join(lines) + (
        f"\n\n| | |\n|---|---|\n| share of the embedder's throughput | {share['median']:.0%} "
        f"({share['min']:.0%}-{share['max']:.0%}) |\n| CPU of an ingestion, s | {cpu} |\n"
        f"| answers, p50, ms | {show(stages['p50'], '.1f')} |\n| answers, p99, ms | {show(stages['p99'], '.1f')} |\n"
        f"| stages, p50, ms | {worked} |\n| query alone, p50, ms | {alone_ms} |"
    )


def targets(results: dict[str, Any]) -> list[suite.Target]:
    share = results["share"]
    found = f"{share['median']:.0%} ({share['min']:.0%}-{share['max']:.0%})"
    return [suite.Target("90 % of the embedding model's own chunks per second", found, share["median"] >= 0.9)]


def plot(results: dict[str, Any], figure: "Figure") -> None:
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    rates = results["chunks_per_second"]
    names = list(rates)
    middle = [rates[name]["median"] for name in names]
    spread = [
        [rates[name]["median"] - rates[name]["min"] for name in names],
        [rates[name]["max"] - rates[name]["median"] for name in names],
    ]
    colours = ["0.6" if name == "Embedder alone" else f"C{number}" for number, name in enumerate(names)]
    bars = left.barh(names, middle, xerr=spread, color=colours)
    left.bar_label(bars, [f"{rate:,.0f}" for rate in middle], padding=8)
    left.invert_yaxis()
    left.margins(x=0.18)
    left.grid(visible=False, axis="y")
    left.set_xlabel("chunks per second")
    own = ("p50", "p99", "query alone")
    parts = {name: value["median"] for name, value in results["answers_ms"].items() if name not in own}
    parts["between stages"] = max(0.0, results["answers_ms"]["p50"]["median"] - sum(parts.values()))
    done = 0.0
    for number, (name, value) in enumerate(parts.items()):
        colour = "0.8" if name == "between stages" else f"C{number}"
        right.bar(0, value, bottom=done, width=0.5, color=colour)
        right.annotate(f"{name} {value:.1f}", (0.32, done + value / 2), va="center")
        done += value
    right.set_xlim(-0.4, 1.4)
    right.set_xticks([0], ["an answer"])
    right.grid(visible=False, axis="x")
    right.set_ylabel("p50, ms")
