"""The liveness probe of the broker's Pod, run by a shell against a real nats-server on a disk that becomes full."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js.api import StorageType

from shared.nats.client import connect
from tests.harness.broker import NatsServer
from tests.harness.manifests import render
from tests.harness.paths import PROGRAMS
from tests.harness.small_disk import SmallDisk, small_disk
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 200) as disk:
        yield disk


@pytest.fixture
def broker(disk: SmallDisk) -> Iterator[NatsServer]:
    with NatsServer(disk.folder / "nats", "-m", "-1") as server:
        yield server


class Probe:
    """The command in the manifests, with the port and folder of this server."""

    def __init__(self, broker: NatsServer, disk: SmallDisk, folder: Path) -> None:
        (container,) = render("base").get("StatefulSet", "nats")["spec"]["template"]["spec"]["containers"]
        shell, options, script = container["livenessProbe"]["exec"]["command"]
        monitor = broker.monitoring.rpartition(":")[2]
        self._command = [shell, options, script.replace("8222", monitor).replace("/data", str(disk.folder))]
        (folder / "nc").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAMS / "nc.py"}" "$@"\n')
        (folder / "nc").chmod(0o755)
        self._env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    def succeeds(self) -> bool:
        return subprocess.run(self._command, env=self._env, check=False, timeout=30).returncode == 0


async def test_a_node_is_restarted_once_a_full_disk_has_room_again_and_not_before(
    disk: SmallDisk, broker: NatsServer, tmp_path: Path
) -> None:
    probe = Probe(broker, disk, tmp_path)
    client = await connect(broker.url)
    jetstream = client.jetstream(timeout=5)
    await jetstream.add_stream(name="S", subjects=["s"], storage=StorageType.FILE)
    assert probe.succeeds()
    disk.fill()

    async def refused() -> bool:
        try:
            await jetstream.publish("s", b"x" * 500_000)
        except (NatsError, TimeoutError):
            return True
        return False

    await until(refused, "a write refused")
    assert probe.succeeds(), "a restart would not help, and stop queries"
    disk.make_room()
    assert not probe.succeeds()
    await client.close()


async def test_a_server_that_does_not_answer_is_not_alive(broker: NatsServer, disk: SmallDisk, tmp_path: Path) -> None:
    probe = Probe(broker, disk, tmp_path)
    broker.kill()
    assert not probe.succeeds()
