"""How soon the stages stop when clients disconnect: `python -m benchmarks.disconnect --data .sluice`.

Against a running `sluice up`: many clients ask at once and hang up together, half of them streaming. Prints, per stage,
how many queries ended in which way, and the time from the hang-up to the end of the work by the stages' own metrics.
"""

import argparse
import asyncio
import json
import re
import time
from pathlib import Path

import httpx

BUCKET = re.compile(r'sluice_stage_cancel_seconds_bucket\{lane="interactive",le="([^"]+)",stage="([^"]+)"[^}]*\} (\S+)')
OUTCOME = re.compile(r'sluice_stage_messages_total\{lane="interactive",outcome="([^"]+)",stage="([^"]+)"[^}]*\} (\S+)')
IN_FLIGHT = re.compile(r'sluice_stage_in_flight\{lane="interactive"[^}]*\} (\S+)')

Counts = dict[tuple[str, str], float]


async def metrics(client: httpx.AsyncClient, urls: list[str]) -> str:
    pages = await asyncio.gather(*(client.get(f"{url}/metrics") for url in urls))
    return "\n".join(page.text for page in pages)


def counts(pattern: re.Pattern[str], text: str) -> Counts:
    return {(stage, what): float(value) for what, stage, value in pattern.findall(text)}


def difference(before: Counts, after: Counts) -> Counts:
    return {key: value - before.get(key, 0.0) for key, value in after.items() if value > before.get(key, 0.0)}


async def hang_up(url: str, collection: str, clients: int, after: float) -> None:
    limits = httpx.Limits(max_connections=clients)
    client = httpx.AsyncClient(trust_env=False, timeout=60, limits=limits)

    async def ask(number: int) -> None:
        body = {
            "question": f"How are chunks cut in case {number}?",
            "collection": collection,
            "stream": number % 2 == 0,
        }
        await client.post(f"{url}/v1/query", json=body)

    tasks = [asyncio.create_task(ask(number)) for number in range(clients)]
    await asyncio.sleep(after)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()


async def run(data: Path, collection: str, clients: int, after: float) -> None:
    state = json.loads((data / "up.json").read_text())
    urls = [
        service["url"] for name, service in state["services"].items() if name in ("embedder", "retriever", "generator")
    ]
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        before = await metrics(client, urls)
        await hang_up(state["url"], collection, clients, after)
        left = time.perf_counter()
        while sum(map(float, IN_FLIGHT.findall(await metrics(client, urls)))):
            pass
        idle = time.perf_counter() - left
        text = await metrics(client, urls)
    print(
        f"{clients} clients, half of them streaming, hung up after {after:.2f} s; "
        f"all stages idle {idle * 1e3:.0f} ms later"
    )
    for (stage, outcome), number in sorted(difference(counts(OUTCOME, before), counts(OUTCOME, text)).items()):
        print(f"  {stage:10} {outcome:12} {number:4.0f}")
    print("ended within, by sluice_stage_cancel_seconds:")
    for (stage, le), number in difference(counts(BUCKET, before), counts(BUCKET, text)).items():
        if le in ("0.01", "0.025", "0.05", "0.1", "+Inf"):
            print(f"  {stage:10} {le:>6} s {number:4.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".sluice"), help="data folder of the running `sluice up`")
    parser.add_argument("--collection", default="default")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--after", type=float, default=0.5, help="seconds until they hang up")
    options = parser.parse_args()
    asyncio.run(run(options.data, options.collection, options.clients, options.after))


if __name__ == "__main__":
    main()
