"""An hour of mixed load, and what each process holds meanwhile: `python -m benchmarks.soak --help`"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil

from benchmarks import suite
from shared.contracts.documents import document_id
from tests.harness.platform import Platform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "An hour of mixed load"
VERSIONS = ("psutil",)
ABOUT = """\
A whole `sluice up` whose history, uploads, answers and feedback stay for five minutes, so that what is kept for thirty
days elsewhere comes to its full size early. For the same reason the cache of reranked passages takes 16 MiB at most.
Clients do what people do, at a steady rate: ask, whole and streamed, sometimes leaving in the middle; embed, rerank
and chat; replace and delete documents among 400; make, fill and delete collections; write and read artifacts,
conversations and keys; evaluate; list jobs and documents; and send requests that are refused. Before the hour they do
so for six minutes at three times the rate, which fills caches and the broker's buffers. Every 15 seconds each process
is looked at, and the data folder. *Growth* compares the median of the last quarter with that of the second."""
HISTORY_SECONDS: Final = 300
EVERY: Final = 15.0
WARM_UP: Final = 0.1
"""The share of the time for which the load runs before it, RUSH times as fast."""
RUSH: Final = 3
RERANK_CACHE_MIB: Final = 16
ALLOWED: Final = 1.10
SMALL_MIB: Final = 8
"""Growth that is never too much: less than what an allocator keeps for later."""
SMALL_COUNT: Final = 8
DOCUMENTS: Final = 400
RING: Final = 20
"""Artifacts, conversations and so on that are written again and again."""
FILE_BYTES: Final = 256 * 2**10
KINDS: Final = {"memory_mib": "MiB of memory", "files": "open files", "threads": "threads"}
COLLECTION: Final = "soak"
ADMIN: Final = "admin-key-of-the-soak-0123456789abcdef"
EMBEDDER: Final = "all-MiniLM-L6-v2"
JSON: Final = {"content-type": "application/json"}
WORDS: Final = (
    *("amber", "basalt", "canal", "dynamo", "ember", "ferry", "granite", "harbour", "ingot", "jetty"),
    *("keel", "lantern", "mortar", "nickel", "orchard", "pulley", "quarry", "rivet", "sluice", "turbine"),
)


@dataclass
class Samples:
    """What was seen at each look: `series[process][figure]`, and the folders of the data folder in MiB."""

    minutes: list[float] = field(default_factory=list)
    processes: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    folders: dict[str, list[float]] = field(default_factory=dict)

    def take(self, up: Platform, minutes: float) -> None:
        """Look at every process with its children, and at the data folder."""
        state = up.state
        self.minutes.append(round(minutes, 2))
        pids = {name: service.pid for name, service in state.services.items()} | {"sluice up": state.pid}
        for name, pid in pids.items():
            of = self.processes.setdefault(name, {kind: [] for kind in KINDS})
            found = psutil.Process(pid) if pid is not None else None
            of["memory_mib"].append(round(found.memory_info().rss / 2**20, 1) if found else 0.0)
            of["files"].append(float(found.num_fds()) if found else 0.0)
            of["threads"].append(float(found.num_threads()) if found else 0.0)
        for folder in sorted(each for each in up.data.iterdir() if each.is_dir()):
            series = self.folders.setdefault(folder.name, [0.0] * (len(self.minutes) - 1))
            series.append(round(_disk_bytes(folder) / 2**20, 1))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=60.0)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Raises SystemExit where a request was answered in a way that it should not have been."""
    minutes = 0.7 if arguments.quick else arguments.minutes
    history_days = HISTORY_SECONDS / 86_400
    settings = {
        "history_seconds": HISTORY_SECONDS,
        "upload_seconds": HISTORY_SECONDS,
        "answer_days": history_days,
        "feedback_days": history_days,
        "conversations": "server",
        "rerank_cache_mb": RERANK_CACHE_MIB,
    }
    with (
        tempfile.TemporaryDirectory(prefix="sluice-soak-") as folder,
        Platform(Path(folder), log_level="WARNING", admin_key=ADMIN, keep_answers="true", **settings) as up,
    ):
        samples, load = asyncio.run(_soak(up, 60 * minutes))
        restarts = {name: service.restarts for name, service in up.state.services.items() if service.restarts}
    if load.wrong or restarts:
        raise SystemExit("\n".join([f"restarted: {restarts}", *load.wrong[:50]]))
    return {
        "minutes": minutes,
        "requests": dict(sorted(load.done.items())),
        "at": samples.minutes,
        "processes": samples.processes,
        "folders": samples.folders,
    }


async def _soak(up: Platform, seconds: float) -> tuple[Samples, "_Load"]:
    samples = Samples()
    limits = httpx.Limits(max_connections=64)
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(base_url=up.url, headers=headers, trust_env=False, timeout=90, limits=limits) as http:
        load = _Load(http)
        await load.prepare()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(load.repeat(each, pause)) for each, pause in load.plan().items()]
            load.rate = RUSH
            await asyncio.sleep(WARM_UP * seconds)
            load.rate = 1
            began = time.monotonic()
            while (passed := time.monotonic() - began) < seconds:
                await asyncio.to_thread(samples.take, up, passed / 60)
                if len(samples.minutes) % 20 == 0:
                    memory = {name: of["memory_mib"][-1] for name, of in samples.processes.items()}
                    suite.say(
                        f"{passed / 60:.0f} min, {load.done.total():,} requests, {memory}, {len(load.wrong)} wrong"
                    )
                await asyncio.sleep(EVERY)
            for task in running:
                task.cancel()
    return samples, load


Work = Callable[[], Awaitable[None]]


class _Load:
    """What clients do, `rate` times as fast as the plan says. `done` counts the requests by what they are, `wrong` says
    which were answered badly."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._dice = random.Random(1)
        self._number = itertools.count()
        self.rate = 1
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def plan(self) -> dict[Work, float]:
        """What is done, and the seconds between two of it."""
        return {
            self.ask: 0.4,
            self.stream: 0.7,
            self.leave: 2.0,
            self.chat: 2.0,
            self.embed: 2.0,
            self.rerank: 3.0,
            self.replace: 1.0,
            self.delete: 5.0,
            self.collection: 10.0,
            self.artifact: 1.0,
            self.conversation: 3.0,
            self.key: 5.0,
            self.evaluate: 60.0,
            self.look: 2.0,
            self.refused: 1.0,
        }

    async def repeat(self, work: Work, pause: float) -> None:
        while True:
            try:
                await work()
            except httpx.HTTPError as error:
                self.wrong.append(f"{work.__name__}: {error!r}")
            await asyncio.sleep(pause / self.rate)

    async def prepare(self) -> None:
        await self._send("collections", "POST", "/v1/collections", 201, json={"name": COLLECTION})
        documents = [self._document(number) for number in range(DOCUMENTS)]
        for start in range(0, DOCUMENTS, 100):
            await self._job(await self._upload(COLLECTION, documents[start : start + 100]))

    async def ask(self) -> None:
        answer = await self._send("questions", "POST", "/v1/query", 200, json=self._question())
        if next(self._number) % 5 == 0:
            body = {"answer": answer.json()["id"], "rating": self._dice.choice(["up", "down"])}
            await self._send("feedback", "POST", "/v1/feedback", 200, json=body)

    async def stream(self) -> None:
        await self._send("streamed questions", "POST", "/v1/query", 200, json=self._question() | {"stream": True})

    async def leave(self) -> None:
        body = self._question() | {"stream": True}
        async with self._http.stream("POST", "/v1/query", json=body) as response:
            async for _ in response.aiter_bytes():
                break
        self.done["streams left in the middle"] += 1

    async def chat(self) -> None:
        messages = [{"role": "user", "content": self._question()["question"]}]
        body = {"model": f"rag/{COLLECTION}", "messages": messages, "max_tokens": 64}
        await self._send("chats", "POST", "/v1/chat/completions", 200, json=body)

    async def embed(self) -> None:
        body = {"model": EMBEDDER, "input": [self._sentence() for _ in range(8)]}
        await self._send("embeddings", "POST", "/v1/embeddings", 200, json=body)

    async def rerank(self) -> None:
        body = {"query": self._sentence(), "documents": [self._sentence() for _ in range(10)]}
        await self._send("reranks", "POST", "/v1/rerank", 200, json=body)

    async def replace(self) -> None:
        await self._job(await self._upload(COLLECTION, [self._document(self._dice.randrange(DOCUMENTS))]))

    async def delete(self) -> None:
        document = document_id(f"doc-{self._dice.randrange(DOCUMENTS)}.txt")
        spec = {"kind": "delete", "collection": COLLECTION, "documents": [document]}
        response = await self._send("jobs", "POST", "/v1/jobs", 202, json={"spec": spec})
        await self._job(response.json()["job"]["id"])

    async def collection(self) -> None:
        name = f"soak-{next(self._number)}"
        await self._send("collections", "POST", "/v1/collections", 201, json={"name": name})
        await self._job(await self._upload(name, [self._document(number) for number in range(3)]))
        await self._send("questions", "POST", "/v1/query", 200, json=self._question() | {"collection": name})
        await self._send("collections", "DELETE", f"/v1/collections/{name}", 202)

    async def artifact(self) -> None:
        path = f"/v1/artifacts/soak/file-{self._dice.randrange(RING)}.bin"
        content = self._dice.randbytes(FILE_BYTES)
        await self._send("artifacts", "PUT", path, 201, content=content)
        response = await self._send("artifacts", "GET", path, 200)
        if response.content != content:
            self.wrong.append("an artifact is not what was written")

    async def conversation(self) -> None:
        path = f"/v1/conversations/{self._dice.randrange(RING):08}"
        body = {"title": self._sentence()[:80], "collection": COLLECTION, "pipeline": "default", "exchanges": []}
        await self._send("conversations", "PUT", path, 200, json=body)
        await self._send("conversations", "GET", path, 200)

    async def key(self) -> None:
        made = await self._send("keys", "POST", "/v1/keys", 201, json={"name": "soak", "actions": ["query"]})
        await self._send("keys", "DELETE", f"/v1/keys/{made.json()['key']['id']}", 200)

    async def evaluate(self) -> None:
        lines = [json.dumps({"question": self._sentence(), "sources": ["doc-1.txt"]}) for _ in range(10)]
        path = "soak/questions.jsonl"
        await self._send("artifacts", "PUT", f"/v1/artifacts/{path}", 201, content="\n".join(lines))
        spec = {"kind": "evaluate", "collection": COLLECTION, "input": path}
        response = await self._send("jobs", "POST", "/v1/jobs", 202, json={"spec": spec})
        await self._job(response.json()["job"]["id"])

    async def look(self) -> None:
        for path in ("/v1/jobs", f"/v1/collections/{COLLECTION}/documents", "/v1/collections", "/v1/status"):
            await self._send("lists", "GET", path, 200)

    async def refused(self) -> None:
        await self._send("refused requests", "POST", "/v1/query", 422, json={"question": ""})
        await self._send("refused requests", "POST", "/v1/query", 422, content=b'{"question": ', headers=JSON)
        await self._send("refused requests", "GET", f"/v1/jobs/none-{next(self._number)}", 404)

    async def _send(self, what: str, method: str, path: str, wanted: int, **content: Any) -> httpx.Response:
        response = await self._http.request(method, path, **content)
        self.done[what] += 1
        if response.status_code != wanted:
            self.wrong.append(f"{method} {path}: {response.status_code} {response.text[:300]}")
            raise httpx.HTTPError("not as wanted")
        return response

    async def _upload(self, collection: str, documents: Sequence[dict[str, str]]) -> str:
        path = f"/v1/collections/{collection}/documents"
        response = await self._send("uploads", "POST", path, 202, json={"documents": documents})
        return str(response.json()["job"]["id"])

    async def _job(self, job: str) -> None:
        """Follow a job to its end."""
        async with self._http.stream("GET", f"/v1/jobs/{job}/events") as response:
            events = [line async for line in response.aiter_lines()]
        self.done["jobs followed"] += 1
        if not any('"succeeded"' in line for line in events):
            self.wrong.append(f"job {job}: {events[-3:]}")

    def _document(self, number: int) -> dict[str, str]:
        return {"name": f"doc-{number}.txt", "text": "\n\n".join(self._sentence() for _ in range(20))}

    def _question(self) -> dict[str, Any]:
        return {"question": f"Where is the {' '.join(self._dice.sample(WORDS, 3))}?", "collection": COLLECTION}

    def _sentence(self) -> str:
        return f"The {' '.join(self._dice.choices(WORDS, k=12))} is at {self._dice.randrange(10_000)}."


def _disk_bytes(folder: Path) -> int:
    """What a folder takes on the disk; files that go meanwhile do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _quarters(series: Sequence[float]) -> tuple[float, float]:
    """The medians of the second quarter and of the last."""
    quarter = max(1, len(series) // 4)
    return statistics.median(series[quarter : 2 * quarter]), statistics.median(series[-quarter:])


def _rows(results: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """Name, figure, and the medians of the second quarter and the last."""
    rows = [
        (name, words, *_quarters(of[kind]))
        for name, of in results["processes"].items()
        for kind, words in KINDS.items()
    ]
    return rows + [
        (f"data/{name}", "MiB on the disk", *_quarters(series)) for name, series in results["folders"].items()
    ]


def table(results: dict[str, Any]) -> str:
    lines = ["| | | second quarter | last quarter | growth |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {words} | {before:,.0f} | {after:,.0f} | {after / before - 1 if before else 0:+.0%} |"
        for name, words, before, after in _rows(results)
    ]
    requests = ", ".join(f"{count:,} {name}" for name, count in results["requests"].items())
    return "\n".join([*lines, "", f"In {results['minutes']:.0f} minutes: {requests}. None was answered badly."])


def targets(results: dict[str, Any]) -> list[suite.Target]:
    grown = [
        f"{name}: {before:,.0f} to {after:,.0f} {words}"
        for name, words, before, after in _rows(results)
        if after > before * ALLOWED and after - before > (SMALL_MIB if "MiB" in words else SMALL_COUNT)
    ]
    wanted = f"memory, files and disk grow by {ALLOWED - 1:.0%} at most in the second half of an hour of mixed load"
    return [suite.Target(wanted, "; ".join(grown) or "none has grown more", not grown)]


def plot(results: dict[str, Any], figure: "Figure") -> None:
    memory, files, disk = figure.subplots(1, 3)
    for name, of in results["processes"].items():
        style = "--" if name == "sluice up" else "-"  # there are six colours
        memory.plot(results["at"], of["memory_mib"], style, label=name)
        files.plot(results["at"], of["files"], style, label=name)
    for name, series in results["folders"].items():
        if max(series) >= 1:
            disk.plot(results["at"], series, label=f"data/{name}")
    for axis, what in ((memory, "MiB of memory"), (files, "open files"), (disk, "MiB on the disk")):
        axis.set_xlabel("minutes")
        axis.set_ylabel(what)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize="x-small", ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22))


if __name__ == "__main__":
    suite.main()
