"""Backup and restore of a data folder. The program that does it is the retriever's, in a process of its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sluice.local.broker import USER, Broker
from sluice.local.environment import broker_environment, service_environment
from sluice.local.format import check_format
from sluice.local.guard import Guard
from sluice.local.private import make_private
from sluice.local.state import FolderLock, UpState, rotate_log

__all__ = ["BrokerFailedError", "NotRunningError", "RunningError", "broker_alone", "broker_settings", "run_program"]

PROGRAM: Final = "services.retriever.backup"
PATIENCE: Final = 60.0
"""Seconds in which the broker of a data folder has to greet."""

STOP: Final = 10.0


class NotRunningError(Exception):
    """No Sluice runs on the data folder."""


class RunningError(Exception):
    """A Sluice runs on the data folder."""


class BrokerFailedError(Exception):
    """The broker of a data folder does not start."""


def broker_settings(data: Path) -> dict[str, str]:
    """How to reach the broker: the one that SLUICE_NATS_URL names, else that of the `sluice up` of a data folder.

    Raises NotRunningError.
    """
    if os.environ.get("SLUICE_NATS_URL"):
        return {key: value for key, value in os.environ.items() if key.startswith("SLUICE_NATS_")}
    state = UpState.running(data)
    address = data / "nats.url"
    if state is None or not address.exists():
        raise NotRunningError(str(data))
    _, _, host = address.read_text().strip().rpartition("@")
    return _local(f"nats://{host}", data)


@contextmanager
def broker_alone(data: Path) -> Iterator[dict[str, str]]:
    """Run the broker of a data folder without any service. Yields how to reach it.

    Raises RunningError, BrokerFailedError, and what `sluice up` does before it starts anything. The broker ends with
    the block, and also if this process is killed.
    """
    if UpState.running(data) is not None:
        raise RunningError(str(data))
    make_private(data)
    (data / "logs").mkdir(exist_ok=True)
    with FolderLock(data) as lock:
        check_format(data)
        broker = Broker(data)
        broker.prepare()
        guard = Guard(lock.fd)
        log = data / "logs" / "nats.log"
        rotate_log(log)
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(  # noqa: S603  (the broker that was found)
                    broker.argv(),
                    env=broker_environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            guard.add(process.pid, gentle=True)
            try:
                _wait(broker, process, log)
                yield _local(broker.url or "", data) | {
                    "SLUICE_HISTORY_BYTES": str(broker.history_bytes),
                    "SLUICE_PAYLOAD_BYTES": str(broker.payload_bytes),
                }
            finally:
                _stop(process)
                guard.remove(process.pid)
        finally:
            guard.close()
            broker.forget()


def run_program(arguments: Sequence[str], broker: Mapping[str, str]) -> tuple[int, str]:
    """Run the program for backups; its progress goes to this process's standard error. Returns its exit status and
    what it has written to standard output."""
    own = service_environment("retriever", os.environ)
    done = subprocess.run(  # noqa: S603  (this interpreter)
        [sys.executable, "-P", "-m", PROGRAM, *arguments],
        env={**own, **broker, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def _local(url: str, data: Path) -> dict[str, str]:
    return {
        "SLUICE_NATS_URL": url,
        "SLUICE_NATS_USER": USER,
        "SLUICE_NATS_PASSWORD_FILE": str(data / "nats.password"),
        "SLUICE_DATA_DIR": str(data),
    }


def _wait(broker: Broker, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + PATIENCE
    while (missing := asyncio.run(broker.probe())) is not None:
        if process.poll() is not None or time.monotonic() > give_up:
            raise BrokerFailedError(f"nats-server did not start ({missing}); see {log}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
