"""Those that take documents in: Sluice through its front door, and peers in processes of their own."""

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import Child
from benchmarks.suite import PEERS, Usage
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


class Peer(Child):
    """A script of `benchmarks/peers` that has loaded its model and ingests the folder when it is told to."""

    def __init__(self, name: str, folder: Path, log: Path) -> None:
        command = [str(PEERS / "bin" / "python"), "-m", f"benchmarks.peers.{PEER_MODULES[name]}", str(folder)]
        # It does not report how it is used.
        super().__init__(name, command, log=log, HAYSTACK_TELEMETRY_ENABLED="False")

    def ingest(self) -> Ingested:
        return Ingested(**self.tell("again"))


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
