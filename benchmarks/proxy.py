"""What the platform costs on top of the bare engine: `make vllm`, then `python -m benchmarks.proxy`.

The same engine with the same arguments, twice: bare, where the load calls vLLM's AsyncLLM in its own process; and in
Sluice, where it goes over HTTP to the gateway, over NATS to the generator, and comes back as server-sent events. Both
get the same chats of random-weight models, stream them, and take turns within each repetition. Time to the first token
is from the request to the first text at the client; throughput is tokens of all answers over the whole time.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.tiny_model import make_model

CONCURRENT = (1, 8, 32)
MODEL = "tiny"
QUESTION = "Tell of lamp {} and of all its years."

Answer = tuple[float, int]
"""Seconds to the first text, and tokens."""

Ask = Callable[[int], Awaitable[Answer]]


async def load(ask: Ask, concurrent: int, total: int) -> dict[str, float]:
    """Keep so many answers in work until all have ended."""
    numbers = iter(range(total))
    first: list[float] = []
    tokens = 0

    async def client() -> None:
        nonlocal tokens
        for number in numbers:
            began, count = await ask(number)
            first.append(began)
            tokens += count

    start = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrent):
            tasks.create_task(client())
    seconds = time.perf_counter() - start
    return {"tokens_per_s": tokens / seconds, "first_ms": statistics.median(first) * 1e3}


async def serve_bare(model: str, tokens: int) -> None:
    """Run loads against the engine in this process, as asked for on standard input, one JSON line each."""
    from services.generator.engines.vllm.config import VLLMConfig
    from services.generator.engines.vllm.engine import VLLMEngine

    engine = VLLMEngine(VLLMConfig(model=model, served_name=MODEL, dtype="float32", kv_cache_gib=0.25))
    await engine.start()
    llm = engine._running._llm  # type: ignore[union-attr]

    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    tokenizer = llm.get_tokenizer()
    params = SamplingParams(
        max_tokens=tokens, temperature=0, ignore_eos=True, output_kind=RequestOutputKind.DELTA, detokenize=True
    )
    asked = 0

    async def ask(number: int) -> Answer:
        nonlocal asked
        asked += 1
        began, first, count = time.perf_counter(), 0.0, 0
        messages = [{"role": "user", "content": QUESTION.format(number)}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        async for output in llm.generate(prompt, params, request_id=f"bare-{asked}"):
            count += len(output.outputs[0].token_ids)
            if not first and output.outputs[0].text:
                first = time.perf_counter() - began
        return first, count

    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = json.loads(line)
        print(json.dumps(await load(ask, wanted["concurrent"], wanted["total"])), flush=True)
    await engine.close()


@asynccontextmanager
async def bare_engine(model: Path, tokens: int) -> AsyncIterator[Callable[[int, int], Awaitable[dict[str, float]]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.proxy",
        "--bare",
        str(model),
        "--tokens",
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


def table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    lines = ["| at once | first token ms, bare | Sluice | difference | tokens/s, bare | Sluice | ratio (spread) |"]
    lines.append("|---|---|---|---|---|---|---|")
    for concurrent, systems in results.items():
        bare, sluice = systems["bare"], systems["sluice"]
        ratios = [s["tokens_per_s"] / b["tokens_per_s"] for s, b in zip(sluice, bare, strict=True)]
        first = [statistics.median(run["first_ms"] for run in runs) for runs in (bare, sluice)]
        rate = [statistics.median(run["tokens_per_s"] for run in runs) for runs in (bare, sluice)]
        lines.append(
            f"| {concurrent} | {first[0]:.1f} | {first[1]:.1f} | {first[1] - first[0]:+.1f} | {rate[0]:,.0f} "
            f"| {rate[1]:,.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return "\n".join(lines)


async def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or make_model(folder / "tiny")
        with platform_of(model, folder) as url:
            async with bare_engine(model, options.tokens) as bare:
                ask = chat_over_http(url, options.tokens)
                results: dict[str, dict[str, list[dict[str, float]]]] = {}
                for concurrent in CONCURRENT:
                    total = max(concurrent * 3, 6)
                    runs = results[str(concurrent)] = {"bare": [], "sluice": []}
                    await load(ask, concurrent, concurrent)
                    await bare(concurrent, concurrent)
                    for _ in range(options.repetitions):
                        runs["bare"].append(await bare(concurrent, total))
                        runs["sluice"].append(await load(ask, concurrent, total))
    print(table(results))
    if options.out:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        facts: dict[str, Any] = {"machine": machine, "sluice": version("sluice"), "results": results}
        options.out.write_text(json.dumps(facts, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a model; none: one of two layers of random weights")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file for the raw results")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        asyncio.run(serve_bare(options.bare, options.tokens))
    else:
        asyncio.run(run(options))


if __name__ == "__main__":
    main()
