"""One service, or the whole platform, from the start of its process to its first answer."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from benchmarks import suite
from sluice import Client
from sluice.local.state import UpState
from tests.harness.processes import ServiceProcess

__all__ = ["ASKED", "Up", "start"]

COLLECTION = "tides"
ASKED = {"question": "What do the tides follow?", "collection": COLLECTION}
TEXTS = {
    f"tide-{number}.md": f"The tides of harbour {number} follow the moon. " + "Ships wait for the water. " * 20
    for number in range(50)
}
UP_SECONDS = 120.0


def footprint(pid: int) -> dict[str, float]:
    """The memory of a process and, where it has some, of its children, in MiB."""
    usage = suite.Usage([pid])
    own = psutil.Process(pid).memory_full_info()
    return {"rss": own.rss / 2**20, "uss": own.uss / 2**20, "tree_rss": usage.rss_mib(), "tree_pss": usage.memory_mib()}


def start(service: str, folder: Path, settings: dict[str, object], settle: float) -> dict[str, float]:
    """Start a service beside its broker and kill it: seconds until it answers and is ready, and what it took."""
    process = ServiceProcess(f"services.{service}", folder, **settings)
    began = time.perf_counter()
    process.start()
    try:
        suite.wait_ready(lambda: _status(process.url, "/livez") == 200, service)
        answers = time.perf_counter() - began
        suite.wait_ready(lambda: _status(process.url, "/readyz") == 200, service)
        ready = time.perf_counter() - began
        cpu = suite.Usage([process.pid]).cpu_seconds()
        time.sleep(settle)
        return {"answers_s": answers, "ready_s": ready, "cpu_s": cpu} | footprint(process.pid)
    finally:
        process.kill()


def _status(url: str, path: str, body: object = None) -> int:
    """Raises OSError where nothing listens."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=UP_SECONDS)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().status
    except HTTPException as error:
        raise ConnectionError from error
    finally:
        connection.close()


class Up:
    """`sluice up` on a folder of its own, with documents in it."""

    def __init__(self, folder: Path) -> None:
        self.seconds = 0.0
        """From the start of its process to the first answer."""
        self._data = folder / "data"
        self._log = folder / "up.log"
        folder.mkdir(parents=True, exist_ok=True)
        with self._started() as url, Client(url, timeout=UP_SECONDS) as client:
            client.create_collection(COLLECTION)
            job = client.add_texts(COLLECTION, TEXTS)
            assert client.wait(job.id, timeout=UP_SECONDS).state == "succeeded", "the documents were not taken in"

    @contextmanager
    def ready(self) -> Iterator[str]:
        """Its URL, as soon as it has answered a question."""
        began = time.perf_counter()
        with self._started() as url:
            suite.wait_ready(lambda: _status(url, "/v1/query", ASKED) == 200, "sluice up", UP_SECONDS)
            self.seconds = time.perf_counter() - began
            yield url

    def footprints(self) -> dict[str, dict[str, float]]:
        """By service, the broker and the supervisor among them."""
        state = UpState.read(self._data)
        assert state is not None
        pids = {name: service.pid for name, service in state.services.items()}
        found = {name: footprint(pid) for name, pid in pids.items() if pid is not None}
        own = psutil.Process(state.pid).memory_full_info()
        return found | {"sluice up": {"rss": own.rss / 2**20, "uss": own.uss / 2**20, "tree_pss": own.pss / 2**20}}

    @contextmanager
    def _started(self) -> Iterator[str]:
        """Its URL, as soon as its gateway listens."""
        command = [sys.executable, "-m", "sluice", "up", "--port", "0", "--data", str(self._data)]
        with self._log.open("ab") as log:
            process = subprocess.Popen(command, cwd=suite.ROOT, stdout=log, stderr=log)
        try:
            suite.wait_ready(lambda: self._url(process.pid) is not None, "sluice up", UP_SECONDS)
            url = self._url(process.pid)
            assert url is not None
            suite.wait_ready(lambda: _status(url, "/readyz") == 200, "the gateway", UP_SECONDS)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(UP_SECONDS)

    def _url(self, pid: int) -> str | None:
        state = UpState.read(self._data)
        return state.url if state is not None and state.pid == pid else None
