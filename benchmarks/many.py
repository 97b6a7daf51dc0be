"""Ten thousand tenants, collections, downloads and jobs: `python -m benchmarks.many --help`"""

import argparse
import asyncio
import hashlib
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from benchmarks import suite
from tests.harness.platform import Platform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Ten thousand of each"
ABOUT = """\
A whole `sluice up`, asked over HTTP by one client with 24 requests at a time. 10,000 tenants get a key and a
collection each and submit a job each, which has to succeed. One tenant gets 10,000 collections and lists them in pages
of 500, three times; then it submits 2,500 jobs and reads pages of them. A file of 256 KiB is downloaded 10,000 times,
and each download has to be whole. The target is five minutes for all of it. With `--count` there are fewer of each, and
a quarter as many jobs of the one tenant."""
TARGET_COUNT = 10_000
TARGET_SECONDS = 300
ADMIN = "admin-key-of-ten-thousand-0123456789abcdef"
AT_ONCE = 24
PAGE = 500
FILE_BYTES = 256 * 2**10
LOOKS = 20

Headers = dict[str, str]


@dataclass
class Phase:
    """Requests of one kind: how many, for how long in all, and each one's seconds."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.times)
        return {
            "requests": len(ordered),
            "seconds": round(self.seconds, 1),
            "p50_ms": round(1000 * statistics.median(ordered), 2),
            "p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 2),
            "wrong": self.wrong[:20],
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=TARGET_COUNT, help="of each")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Raises SystemExit where something is not as it should be."""
    count = 200 if arguments.quick else arguments.count
    with tempfile.TemporaryDirectory() as folder, Platform(Path(folder), admin_key=ADMIN, log_level="WARNING") as up:
        began = time.monotonic()
        phases = asyncio.run(_all(up.url, count))
        seconds = time.monotonic() - began
        load = os.getloadavg()[min(2, int(seconds // 300))]  # the average that is as old as the run
        # Not by their metrics: the gateway's are not for everybody.
        memory = {name: _resident_mib(up, name) for name in ("nats", "gateway", "scheduler", "retriever")}
    wrong = [f"{name}: {text}" for name, phase in phases.items() for text in phase.wrong]
    if wrong:
        raise SystemExit("\n".join(wrong[:50]))
    figures = {name: phase.figures() for name, phase in phases.items()}
    return {
        "count": count,
        "seconds": round(seconds, 1),
        "load": round(load, 1),
        "memory_mib": memory,
        "phases": figures,
    }


async def _all(url: str, count: int) -> dict[str, Phase]:
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, limits=limits) as http:
        many = _Many(http, count)
        return {
            "a key for each tenant": await many.keys(),
            "a collection for each tenant": await many.collections_of_tenants(),
            "a job for each tenant": await many.submit_jobs(),
            "collections of one tenant": await many.collections(),
            "pages of 500 collections": await many.list_collections(),
            "downloads": await many.downloads(),
            "jobs that have succeeded": await many.end_of_jobs(),
            "jobs of one tenant": await many.jobs_of_one(),
            "pages of 20 jobs": await many.list_jobs(),
        }


class _Many:
    def __init__(self, http: httpx.AsyncClient, count: int) -> None:
        self._http = http
        self._count = count
        self._admin = {"authorization": f"Bearer {ADMIN}"}
        self._keys: dict[str, Headers] = {}
        self._jobs: dict[str, str] = {}

    async def keys(self) -> Phase:
        async def make(number: int) -> str:
            tenant = f"tenant-{number}"
            body = {"name": tenant, "tenant": tenant, "actions": ["query", "read", "write", "jobs"]}
            response = await self._http.post("/v1/keys", json=body, headers=self._admin)
            if response.status_code != 201:
                return response.text[:200]
            self._keys[tenant] = {"authorization": f"Bearer {response.json()['secret']}"}
            return ""

        return await self._each(make, range(self._count))

    async def collections_of_tenants(self) -> Phase:
        async def make(tenant: str) -> str:
            response = await self._http.post("/v1/collections", json={"name": "docs"}, headers=self._keys[tenant])
            return "" if response.status_code == 201 else response.text[:200]

        return await self._each(make, list(self._keys))

    async def submit_jobs(self) -> Phase:
        async def submit(tenant: str) -> str:
            spec = {"kind": "delete", "collection": "docs", "documents": ["none"]}
            response = await self._http.post("/v1/jobs", json={"spec": spec}, headers=self._keys[tenant])
            if response.status_code != 202:
                return response.text[:200]
            self._jobs[tenant] = response.json()["job"]["id"]
            return ""

        return await self._each(submit, list(self._keys))

    async def end_of_jobs(self) -> Phase:
        """The jobs that have not succeeded are looked at again until all have."""

        async def look(tenant: str) -> str:
            response = await self._http.get(f"/v1/jobs/{self._jobs[tenant]}", headers=self._keys[tenant])
            state = response.json()["state"] if response.status_code == 200 else response.text[:200]
            if state == "succeeded":
                del self._jobs[tenant]
            return "" if state in ("queued", "running", "succeeded") else str(state)

        phase = Phase()
        while self._jobs and not phase.wrong:
            turn = await self._each(look, list(self._jobs))
            phase.seconds += turn.seconds
            phase.times += turn.times
            phase.wrong += turn.wrong
        return phase

    async def collections(self) -> Phase:
        async def make(number: int) -> str:
            response = await self._http.post("/v1/collections", json={"name": _name(number)}, headers=self._admin)
            return "" if response.status_code == 201 else response.text[:200]

        return await self._each(make, range(self._count))

    async def list_collections(self) -> Phase:
        """Three times, page by page; the first look is in it."""
        phase = Phase()
        began = time.monotonic()
        for _ in range(3):
            found: list[str] = []
            after = ""
            while True:
                sent = time.monotonic()
                params: dict[str, str | int] = {"limit": PAGE, "after": after}
                page = (await self._http.get("/v1/collections", params=params, headers=self._admin)).json()
                phase.times.append(time.monotonic() - sent)
                found += [collection["name"] for collection in page["collections"]]
                if page["next"] is None:
                    break
                after = page["next"]
            if found != [_name(number) for number in range(self._count)]:
                phase.wrong.append(f"{len(found)} of {self._count} collections are listed")
        phase.seconds = time.monotonic() - began
        return phase

    async def downloads(self) -> Phase:
        content = random.Random(1).randbytes(FILE_BYTES)
        wanted = hashlib.sha256(content).digest()
        path = "/v1/artifacts/shared/file.bin"
        (await self._http.put(path, content=content, headers=self._admin)).raise_for_status()

        async def get(_: int) -> str:
            response = await self._http.get(path, headers=self._admin)
            whole = response.status_code == 200 and hashlib.sha256(response.content).digest() == wanted
            return "" if whole else f"{response.status_code} with {len(response.content)} bytes"

        return await self._each(get, range(self._count))

    async def jobs_of_one(self) -> Phase:
        """A history for one tenant: a quarter as many jobs."""

        async def submit(number: int) -> str:
            spec = {"kind": "delete", "collection": _name(number), "documents": ["none"]}
            response = await self._http.post("/v1/jobs", json={"spec": spec}, headers=self._admin)
            return "" if response.status_code == 202 else response.text[:200]

        return await self._each(submit, range(self._count // 4))

    async def list_jobs(self) -> Phase:
        async def page(_: int) -> str:
            response = await self._http.get("/v1/jobs", params={"limit": 20}, headers=self._admin)
            return "" if len(response.json()["jobs"]) == 20 else response.text[:200]

        return await self._each(page, range(LOOKS), at_once=1)

    async def _each(self, send: Callable[[Any], Awaitable[str]], items: Iterable[Any], at_once: int = AT_ONCE) -> Phase:
        phase = Phase()
        waiting = iter(items)
        began = time.monotonic()

        async def work() -> None:
            for item in waiting:
                sent = time.monotonic()
                try:
                    text = await send(item)
                except httpx.TransportError as error:
                    text = repr(error)
                if text:
                    phase.wrong.append(f"{item}: {text}")
                phase.times.append(time.monotonic() - sent)

        async with asyncio.TaskGroup() as tasks:
            for _ in itertools.repeat(None, at_once):
                tasks.create_task(work())
        phase.seconds = time.monotonic() - began
        return phase


def _resident_mib(up: Platform, service: str) -> float:
    pid = up.state.services[service].pid
    return float(psutil.Process(pid).memory_info().rss / 2**20) if pid is not None else 0.0


def _name(number: int) -> str:
    return f"c{number:05}"


def table(results: dict[str, Any]) -> str:
    lines = ["| | requests | seconds | p50 ms | p99 ms |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {each['requests']:,} | {each['seconds']:,.1f} | {each['p50_ms']:,.1f} | {each['p99_ms']:,.1f} |"
        for name, each in results["phases"].items()
    ]
    memory = ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in results["memory_mib"].items())
    lines += [
        "",
        f"All of it took {results['seconds']:,.0f} s at a load of {results['load']:.1f}, also of other programs. "
        f"Memory afterwards: {memory}.",
    ]
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    wanted = f"{TARGET_COUNT:,} tenants, collections and downloads in {TARGET_SECONDS} s, nothing missing"
    found = f"{results['count']:,} in {results['seconds']:,.0f} s at a load of {results['load']:.1f}, nothing missing"
    met = results["count"] >= TARGET_COUNT and results["seconds"] <= TARGET_SECONDS
    return [suite.Target(wanted, found, met)]


def plot(results: dict[str, Any], figure: "Figure") -> None:
    axis = figure.subplots()
    phases = results["phases"]
    axis.barh(list(phases), [phase["seconds"] for phase in phases.values()])
    axis.invert_yaxis()
    axis.set_xlabel("seconds")


if __name__ == "__main__":
    suite.main()
