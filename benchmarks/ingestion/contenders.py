"""Those that take documents in: Sluice through its front door, and peers in processes of their own."""

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.suite import PEERS, ROOT, Usage
from tests.harness.platform import Platform

__all__ = ["PEER_MODULES", "Ingested", "Peer", "Sluice", "asked"]

PEER_MODULES = {"LlamaIndex, LanceDB": "ingest_llamaindex", "Haystack, in memory": "ingest_haystack"}


@dataclass(frozen=True, slots=True)
class Ingested:
    seconds: float
    chunks: int
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """Of each service, where there are services."""


class Sluice:
    """A platform that runs: each ingestion goes into a new collection, from the upload to the end of its job."""

    def __init__(self, platform: Platform, files: Sequence[Path]) -> None:
        self.url = platform.url
        self.collection = ""
        self._files = list(files)
        self._client = platform.client(timeout=300)
        pids = {name: service.pid for name, service in platform.state.services.items()}
        self._usage = {name: Usage([pid]) for name, pid in pids.items() if pid is not None}
        self._number = 0

    def ingest(self) -> Ingested:
        self._number += 1
        self.collection = f"round-{self._number}"
        self._client.create_collection(self.collection)
        before = self._cpu()
        began = time.perf_counter()
        job = self._client.wait(self._client.upload(self.collection, self._files).id)
        seconds = time.perf_counter() - began
        counts: dict[str, Any] = dict(job.outputs)
        if job.state != "succeeded" or counts["indexed"] != len(self._files):
            raise SystemExit(f"the ingestion did not go well: {job}")
        used = {name: spent - before[name] for name, spent in self._cpu().items()}
        return Ingested(seconds, counts["chunks"], used)

    def _cpu(self) -> dict[str, float]:
        return {name: usage.cpu_seconds() for name, usage in self._usage.items()}


class Peer:
    """A script of `benchmarks/peers` that has loaded its model and ingests the folder when it is told to."""

    def __init__(self, name: str, folder: Path, log: Path) -> None:
        self._command = [str(PEERS / "bin" / "python"), "-m", f"benchmarks.peers.{PEER_MODULES[name]}", str(folder)]
        self._log = log

    def __enter__(self) -> Self:
        # Neither asks the Hub for anything nor reports how it is used.
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"}
        pipe = subprocess.PIPE
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=log, text=True, cwd=ROOT, env=env
            )
        self._answer()
        return self

    def ingest(self) -> Ingested:
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        return Ingested(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer has ended:\n{self._log.read_text()[-2000:]}")
        told: dict[str, Any] = json.loads(line)
        return told

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def _connection(url: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def asked(url: str, collection: str, questions: Sequence[str]) -> Iterator[tuple[float, dict[str, float]]]:
    """Ask one after the other; yields milliseconds until the whole answer, and of each stage's work."""
    with _connection(url) as connection:
        for question in questions:
            body = json.dumps({"question": question, "collection": collection})
            began = time.perf_counter()
            connection.request("POST", "/v1/query", body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            took = (time.perf_counter() - began) * 1e3
            if response.status != 200 or not answer["sources"]:
                raise SystemExit(f"no answer: {answer}")
            yield took, {hop["stage"]: hop["worked_ms"] for hop in answer["timings"]["stages"]}
