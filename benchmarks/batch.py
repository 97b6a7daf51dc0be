"""What a batch costs those who ask interactively: `python -m benchmarks.batch --help`"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks import suite
from sluice import Client
from tests.harness.platform import Platform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Interactive queries beside a batch"
ABOUT = """\
How much a batch slows interactive queries. A whole `sluice up` answers questions about Sluice's documentation,
with the real embedding model and the extractive engine. Interactive questions come at a fixed rate, whether or not
earlier ones are answered, and each is timed from its scheduled moment. Phases of that load alone alternate with
phases of the same load beside a batch, in changing order. A phase with a batch lasts as long as its batch; the one
without has as many questions."""
VERSIONS = ("sentence-transformers",)

COLLECTION = "docs"
DOCS = Path(__file__).parent.parent / "docs"
TOPICS = ("a batch", "a stage", "the gateway", "a lane", "a tenant", "a variant", "the scheduler", "a job", "a slip")
ASKED = ("What is {0}?", "How does {0} survive a crash?", "When does {0} wait?", "Who makes {0}?", "Where is {0} kept?")


def question(number: int) -> str:
    topic = TOPICS[number % len(TOPICS)]
    return f"{ASKED[number // len(TOPICS) % len(ASKED)].format(topic)} ({number})"


@dataclass
class Phase:
    """Seconds that each interactive question took, and how the batch beside it went."""

    beside: bool
    latencies: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: int = 0
    seconds: float = 0.0
    lines: int = 0

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return statistics.quantiles(self.latencies, n=1000, method="inclusive")[int(share * 1000) - 1] * 1e3


class Load:
    """Interactive questions at a rate, until told to stop or so many have been asked."""

    def __init__(self, http: httpx.AsyncClient, rate: float) -> None:
        self._http = http
        self._rate = rate
        self._number = 0

    async def run(self, phase: Phase, stop: asyncio.Event, count: int | None) -> None:
        began = time.perf_counter()
        asked = 0
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set() and (count is None or asked < count):
                due = began + asked / self._rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(self._ask(phase, due))
                asked += 1
        phase.seconds = time.perf_counter() - began

    async def _ask(self, phase: Phase, due: float) -> None:
        self._number += 1
        body = {"question": question(self._number), "collection": COLLECTION}
        response = await self._http.post("/v1/query", json=body)
        phase.latencies.append(time.perf_counter() - due)
        phase.failed += response.status_code != 200
        for hop in response.json().get("timings", {}).get("stages", ()):
            phase.stages[f"{hop['stage']} waited"].append(hop["waited_ms"])
            phase.stages[f"{hop['stage']} worked"].append(hop["worked_ms"])


async def answer_batch(http: httpx.AsyncClient, lines: int, first: int) -> None:
    """Have so many questions answered as a batch."""
    data = "".join(
        json.dumps({"question": question(first + number), "collection": COLLECTION}) + "\n" for number in range(lines)
    )
    files = {"file": ("questions.jsonl", data.encode())}
    uploaded = (await http.post("/v1/files", data={"purpose": "batch"}, files=files)).raise_for_status().json()
    body = {"input_file_id": uploaded["id"], "endpoint": "/v1/query", "completion_window": "24h"}
    batch = (await http.post("/v1/batches", json=body)).raise_for_status().json()
    while batch["status"] not in ("completed", "failed", "expired", "cancelled"):
        await asyncio.sleep(0.5)
        batch = (await http.get(f"/v1/batches/{batch['id']}")).raise_for_status().json()
    if batch["request_counts"] != {"total": lines, "completed": lines, "failed": 0}:
        raise SystemExit(f"the batch did not go well: {batch}")


async def _phases(url: str, lines: int, rounds: int, rate: float) -> list[Phase]:
    phases: list[Phase] = []
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120) as http:
        load = Load(http, rate)
        await load.run(Phase(False), asyncio.Event(), int(rate * 10))  # warm
        each = lines // rounds
        count = None
        for number in range(rounds):
            # The first phase beside a batch says how many questions the others without one have.
            for beside in (True, False) if number % 2 == 0 or count is None else (False, True):
                phase = Phase(beside, lines=each if beside else 0)
                stop = asyncio.Event()
                running = asyncio.create_task(load.run(phase, stop, None if beside else count))
                if beside:
                    await answer_batch(http, each, first=10_000 + number * each)
                    stop.set()
                await running
                count = len(phase.latencies)
                phases.append(phase)
                show_phase(phase)
    return phases


def show_phase(phase: Phase) -> None:
    beside = f"beside {phase.lines} lines" if phase.beside else "alone"
    suite.say(
        f"{beside:>18}: {len(phase.latencies):>5} questions in {phase.seconds:5.1f} s, "
        f"p50 {phase.percentile(0.5):6.1f} ms, p99 {phase.percentile(0.99):6.1f} ms, failed {phase.failed}"
    )
    suite.say(" " * 20 + ", ".join(f"{k} {statistics.median(v):.1f}" for k, v in phase.stages.items()))


def summary(phases: list[Phase]) -> dict[str, Any]:
    """All phases of a kind together, and how far the phases lie apart."""
    whole = Phase(phases[0].beside, [latency for phase in phases for latency in phase.latencies])
    figures: dict[str, Any] = {"questions": len(whole.latencies), "failed": sum(phase.failed for phase in phases)}
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        each = [phase.percentile(share) for phase in phases]
        figures[name] = {"all": whole.percentile(share), "min": min(each), "max": max(each)}
    return figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lines", type=int, default=4000, help="questions of all batches together")
    parser.add_argument("--rounds", type=int, default=2, help="batches, one after the other")
    parser.add_argument("--rate", type=float, default=5.0, help="interactive questions a second")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.lines, arguments.rounds = 120, 1
    with tempfile.TemporaryDirectory() as folder, Platform(Path(folder)) as sluice:
        client: Client = sluice.client()
        client.create_collection(COLLECTION)
        client.wait(client.upload(COLLECTION, sorted(DOCS.glob("*.md"))).id)
        phases = asyncio.run(_phases(sluice.url, arguments.lines, arguments.rounds, arguments.rate))
    batch = [phase for phase in phases if phase.beside]
    return {
        "alone": summary([phase for phase in phases if not phase.beside]),
        "beside_a_batch": summary(batch),
        "batch_lines_per_second": sum(phase.lines for phase in batch) / sum(phase.seconds for phase in batch),
        "latencies_ms": {
            name: sorted(round(took * 1e3, 2) for phase in phases if phase.beside is beside for took in phase.latencies)
            for name, beside in (("alone", False), ("beside_a_batch", True))
        },
    }


def table(results: dict[str, Any]) -> str:
    alone, beside = results["alone"], results["beside_a_batch"]
    lines = ["| | alone | beside a batch | ratio |", "|---|---:|---:|---:|"]
    for label, key in (("p50 ms", "p50_ms"), ("p99 ms", "p99_ms")):
        pair = [{"median": figures[key]["all"], **figures[key]} for figures in (alone, beside)]
        ratio = pair[1]["median"] / pair[0]["median"]
        lines.append(f"| {label} | {suite.show(pair[0], '.0f')} | {suite.show(pair[1], '.0f')} | {ratio:.2f} |")
    counts = [f"{figures['questions']} ({figures['failed']})" for figures in (alone, beside)]
    lines.append(f"| questions (failed) | {counts[0]} | {counts[1]} | |")
    return "\n".join([*lines, "", f"The batches had {results['batch_lines_per_second']:.0f} lines a second meanwhile."])


def plot(results: dict[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    for name, label in (("alone", "alone"), ("beside_a_batch", "beside a batch")):
        latencies = results["latencies_ms"][name]
        shares = [(place + 1) / len(latencies) for place in range(len(latencies))]
        axes.plot(latencies, shares, label=label, drawstyle="steps-post")
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds from when a question was due to its answer")
    axes.set_ylabel("share of questions")
    axes.legend()


if __name__ == "__main__":
    suite.main()
