"""Measures this platform's own times, with which the simulation reckons: `python -m benchmarks.simulation.stage_times`.

A `sluice up` of its own answers questions about Sluice's documentation one after the other; the trail of each answer
tells how long it waited for and worked in each stage. The hop is a publication with the broker's acknowledgement. The
fetch is the time from a worker's request for more to the message that has been waiting for it. Takes about 40 s.
"""

import argparse
import asyncio
import tempfile
import time
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import nats
from nats.js.api import StorageType, StreamConfig

from benchmarks import suite
from benchmarks.load import percentile
from benchmarks.simulation.workload import STAGE_TIMES
from tests.harness.broker import NatsServer
from tests.harness.platform import Platform

QUESTIONS: Final = (
    "How are uploads authenticated?",
    "What happens when a worker dies?",
    "How do I schedule a job?",
    "Which models does the embedder load?",
    "What is a lane?",
    "How is a tenant bounded?",
    "What does a canary do?",
    "Where are traces shown?",
)


def summary(values: list[float]) -> dict[str, float]:
    """Of milliseconds."""
    return {"p50": round(percentile(values, 0.5), 4), "p99": round(percentile(values, 0.99), 4), "count": len(values)}


def stage_times(folder: Path, questions: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds that each stage of the default pipeline made a question wait, and worked on it."""
    waited, worked = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with Platform(folder) as platform:
        _ingest(platform)
        with httpx.Client(base_url=platform.url, trust_env=False, timeout=60) as client:
            for number in range(questions + 20):
                asked = {"question": f"{QUESTIONS[number % len(QUESTIONS)]} ({number})", "collection": "docs"}
                response = client.post("/v1/query", json=asked)
                response.raise_for_status()
                for hop in response.json()["timings"]["stages"] if number >= 20 else ():
                    waited[hop["stage"]].append(hop["waited_ms"])
                    worked[hop["stage"]].append(hop["worked_ms"])
    return {stage: {"waited": summary(waited[stage]), "worked": summary(worked[stage])} for stage in worked}


def _ingest(platform: Platform) -> None:
    files = sorted((suite.ROOT / "docs").glob("*.md"))
    documents = [{"name": file.name, "text": file.read_text()} for file in files]
    with httpx.Client(base_url=platform.url, trust_env=False, timeout=60) as client:
        client.post("/v1/collections", json={"name": "docs"}).raise_for_status()
        made = client.post("/v1/collections/docs/documents", json={"documents": documents}).raise_for_status().json()
        job = made["job"]["id"]
        while (state := client.get(f"/v1/jobs/{job}").json()["state"]) not in ("succeeded", "failed"):
            time.sleep(0.2)
    assert state == "succeeded", state


async def broker_times(url: str, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of a publication with its acknowledgement, and of a fetch of what waits."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    await jetstream.add_stream(StreamConfig(name="TIMES", subjects=["times"], storage=StorageType.MEMORY))
    hops, fetches = [], []
    for _ in range(count):
        began = time.perf_counter()
        await jetstream.publish("times", b"x" * 1500, headers={"Nats-Msg-Id": uuid.uuid4().hex})
        hops.append((time.perf_counter() - began) * 1e3)
    subscription = await jetstream.pull_subscribe("times", "worker")
    for _ in range(count):
        began = time.perf_counter()
        (message,) = await subscription.fetch(1, timeout=5)
        fetches.append((time.perf_counter() - began) * 1e3)
        await message.ack()
    await client.close()
    return hops, fetches


def measure(questions: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        with NatsServer(Path(folder) / "nats") as broker:
            hops, fetches = asyncio.run(broker_times(broker.url, 2000))
        suite.say("measured the broker")
        stages = stage_times(Path(folder) / "platform", questions)
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": suite.machine(),
        "hop_ms": summary(hops),
        "fetch_ms": summary(fetches),
        "stages": stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--out", type=Path, default=STAGE_TIMES)
    arguments = parser.parse_args()
    suite.save(measure(arguments.questions), arguments.out)
    print(arguments.out.read_text())


if __name__ == "__main__":
    main()
