"""What must be as it was once the load is over: nothing left in queues, nothing grown in processes."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import httpx
from nats.errors import Error as NatsError

from shared.nats.client import connect
from tests.chaos.deployment import ADMIN, Deployment

__all__ = ["Base", "check_growth", "check_jobs", "drained", "ends_of", "look"]

PATIENCE: Final = 120.0
MEMORY_MB: Final = 64.0
"""Megabytes by which a service may have grown: what it remembers of traces, cancels and tenants is bounded."""

BROKER_MB: Final = 256.0
FILES: Final = 32
"""Further open files of a process: connections that stay open for a while, and the tables of an index."""

SUBSCRIPTIONS: Final = 16
IDLE: Final = ("sluice_gateway_queries_in_flight", "sluice_stage_in_flight")


@dataclass(frozen=True, kw_only=True)
class Base:
    """The fleet at rest, before the faults; `subscriptions` are those of the services."""

    usage: dict[str, dict[str, Any]]
    subscriptions: int


async def look(deployment: Deployment) -> Base:
    pages = await asyncio.gather(*(asyncio.to_thread(node.ask, "/connz") for node in deployment.nodes))
    subscriptions = sum(client["subscriptions"] for page in pages for client in page["connections"])
    return Base(usage=deployment.usage(), subscriptions=subscriptions)


async def drained(url: str) -> tuple[bool, dict[str, int]]:
    """Wait until no query, no job and no timer is left. Returns whether it came to that, and what each stream holds."""
    give_up = time.monotonic() + PATIENCE
    client = await connect(url)
    try:
        while True:
            held: dict[str, int] = {}
            try:
                for stream in await client.jetstream().streams_info():
                    held[str(stream.config.name)] = stream.state.messages
            except (NatsError, TimeoutError):
                held = {"QUERIES": -1}
            if not any(held.get(name) for name in ("QUERIES", "JOBS", "TIMERS")):
                return True, held
            if time.monotonic() > give_up:
                return False, held
            await asyncio.sleep(0.2)
    finally:
        await client.close()


async def check_jobs(
    url: str, accepted: set[str], poisoned: set[str], unsure: set[str]
) -> tuple[list[str], dict[str, int]]:
    """What is wrong with the jobs: each accepted one has left its mark once and ended once."""
    client = await connect(url)
    try:
        jetstream = client.jetstream(timeout=30.0)
        found = (await jetstream.stream_info("KV_marks", subjects_filter="$KV.marks.>")).state.subjects
        marks = {subject.rpartition(".")[2] for subject in found or {}}
        ends = {state: await ends_of(jetstream, state) for state in ("succeeded", "failed", "cancelled")}
        runs = await ends_of(jetstream, "running")
    finally:
        await client.close()
    wrong = [f"job {job} was accepted and had no effect" for job in accepted - marks]
    wrong += [f"job {job} had an effect and nobody asked for it" for job in marks - accepted - unsure]
    wrong += [f"job {job} succeeded {ends['succeeded'][job]} times" for job in accepted if ends["succeeded"][job] != 1]
    wrong += [f"job {job} failed though nothing is wrong with it" for job in accepted if ends["failed"][job]]
    wrong += [f"poison job {job} failed {ends['failed'][job]} times" for job in poisoned if ends["failed"][job] != 1]
    wrong += [f"poison job {job} succeeded" for job in poisoned if ends["succeeded"][job]]
    strangers = (set(ends["succeeded"]) | set(ends["failed"])) - accepted - poisoned - unsure
    wrong += [f"job {job} ended and nobody asked for it" for job in strangers]
    again = sum(count > 1 for job, count in runs.items() if job in accepted)
    return wrong, {"accepted": len(accepted), "effects": len(marks), "tried_again": again, "poisoned": len(poisoned)}


async def ends_of(jetstream: Any, state: str) -> Counter[str]:
    info = await jetstream.stream_info("JOB_EVENTS", subjects_filter=f"event.job.*.{state}")
    return Counter({subject.split(".")[2]: count for subject, count in (info.state.subjects or {}).items()})


def check_growth(deployment: Deployment, before: Base, after: Base) -> list[str]:
    """What has grown beyond its bound."""
    nodes = {node.name for node in deployment.nodes}
    wrong = []
    for name, now in after.usage.items():
        then = before.usage.get(name, now)
        most = BROKER_MB if name in nodes else MEMORY_MB
        if now["rss_mb"] > then["rss_mb"] + most:
            wrong.append(f"{name} has grown from {then['rss_mb']:.0f} to {now['rss_mb']:.0f} MB")
        if now["files"] > then["files"] + FILES:
            wrong.append(f"{name} has {now['files']} open files; it had {then['files']}")
    if after.subscriptions > before.subscriptions + SUBSCRIPTIONS:
        wrong.append(f"the services have {after.subscriptions} subscriptions; they had {before.subscriptions}")
    return wrong + [
        f"{member.name} says {line}, and nothing is asked"
        for member in deployment.members.values()
        for line in _metrics(member.url)
        if line.startswith(IDLE) and not line.endswith(" 0.0")
    ]


def _metrics(url: str) -> list[str]:
    headers = {"authorization": f"Bearer {ADMIN}"}
    return httpx.get(f"{url}/metrics", headers=headers, trust_env=False, timeout=10).text.splitlines()
