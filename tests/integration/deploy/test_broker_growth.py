"""From one node of the broker to three, with everything that is on it, and one of the three can be lost."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from shared.contracts.jobs import DropSpec
from shared.nats.client import connect
from shared.nats.settings import QueueSettings
from shared.nats.subjects import DOCUMENTS, EVERYTHING, ORIGINALS, VOLATILE
from shared.nats.topology import Topology
from shared.stores.jobs.store import JobStore
from tests.harness.broker import NatsServer
from tests.harness.manifests import render
from tests.harness.nats_nodes import NatsNode, admin, nodes
from tests.harness.stage_harness import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

DURABLE = sorted(EVERYTHING - VOLATILE)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[NatsNode]]:
    """The broker of the base."""
    with nodes(render("base"), tmp_path) as started:
        yield started


async def fill(client: Client, settings: QueueSettings) -> None:
    js = client.jetstream()
    await Topology(js, settings).ensure()
    documents = await js.key_value(DOCUMENTS)
    for number in range(200):
        await documents.put(f"lamps.{number}", f"record {number}".encode())
    await (await js.object_store(ORIGINALS)).put("lamps/1", os.urandom(2**20))
    for number in range(20):
        spec = DropSpec(collection="lamps", table=f"lamps-{number}")
        await JobStore(client, js).submit(spec, job=f"job{number}", tenant="acme")


async def census(js: JetStreamContext) -> dict[str, Any]:
    """What is on the broker: the extent of each stream, all records, and an object's bytes."""
    found: dict[str, Any] = {}
    for name in DURABLE:
        state = (await js.stream_info(name)).state
        # Of an empty stream servers tell either 0 or 1 as the first number.
        found[name] = (state.messages, state.first_seq if state.messages else None, state.last_seq)
    documents = await js.key_value(DOCUMENTS)
    found["records"] = {key: (await documents.get(key)).value for key in await documents.keys()}
    found["object"] = (await (await js.object_store(ORIGINALS)).get("lamps/1")).data
    return found


@asynccontextmanager
async def connected(started: list[NatsNode], folder: Path) -> Any:
    client = await connect([node.url for node in started], **admin(folder), max_reconnect_attempts=-1)
    try:
        yield client
    finally:
        await client.close()


async def copies_are_current(js: JetStreamContext) -> bool:
    """Whether each stream has two followers that have caught up."""
    for name in sorted(EVERYTHING):
        cluster = (await js.stream_info(name)).cluster
        followers = (cluster.replicas or []) if cluster is not None else []
        if len(followers) != 2 or not all(one.current for one in followers):
            return False
    return True


async def survives_the_loss_of_a_node(started: list[NatsNode], folder: Path, before: dict[str, Any]) -> None:
    async def same(js: JetStreamContext) -> bool:
        try:
            return await census(js) == before
        except (nats.errors.Error, TimeoutError):
            return False

    async with connected(started, folder) as client:
        js = client.jetstream(timeout=20)
        await until(lambda: copies_are_current(js), "three copies of each stream", patience=90)
        # A copy that follows the log may still fetch what a snapshot of it stands for, and reads may go to that copy.
        await until(lambda: same(js), "all of it on the three", patience=60)
        leader = (await js.stream_info("JOBS")).cluster.leader
    next(node for node in started if node.name == leader).stop()
    left = [node for node in started if node.name != leader]
    async with connected(left, folder) as client:
        js = client.jetstream(timeout=20)
        await until(lambda: same(js), "all of it on the two that are left", patience=60)


def program(*arguments: str, **settings: object) -> None:
    given = {f"SLUICE_{key.upper()}": str(value) for key, value in settings.items()}
    command = [sys.executable, "-m", "services.retriever.backup", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **given}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


async def test_a_backup_of_one_node_is_restored_onto_three(three: list[NatsNode], tmp_path: Path) -> None:
    place, data = tmp_path / "backups", tmp_path / "data"
    with NatsServer(tmp_path / "one") as one:
        client = await connect(one.url)
        await fill(client, QueueSettings())
        before = await census(client.jetstream())
        await asyncio.to_thread(program, "create", str(place), nats_url=one.url, data_dir=data)
        await client.close()
    secrets = tmp_path / "secrets"
    target = {
        "nats_url": ",".join(node.url for node in three),
        "nats_ca": secrets / "ca.crt",
        "nats_user": "admin",
        "nats_password_file": secrets / "admin.password",
        "data_dir": tmp_path / "other",
        "replicas": 3,
    }
    await asyncio.to_thread(program, "restore", str(place), **target)
    async with connected(three, tmp_path) as client:
        await Topology(client.jetstream(timeout=20), QueueSettings(replicas=3)).ensure()
    await survives_the_loss_of_a_node(three, tmp_path, before)


async def test_one_copy_becomes_three_when_the_setting_says_so(three: list[NatsNode], tmp_path: Path) -> None:
    async with connected(three, tmp_path) as client:
        await fill(client, QueueSettings(replicas=1))
        before = await census(client.jetstream())
        await Topology(client.jetstream(timeout=20), QueueSettings(replicas=3)).ensure()
    await survives_the_loss_of_a_node(three, tmp_path, before)


async def test_the_credential_for_backups_copies_a_cluster_and_may_change_nothing(
    three: list[NatsNode], tmp_path: Path
) -> None:
    async with connected(three, tmp_path) as client:
        await fill(client, QueueSettings(replicas=3))
        # Records are read from any copy, and one of them may be late.
        await until(lambda: copies_are_current(client.jetstream()), "three copies of each stream", patience=90)
        before = await census(client.jetstream())
        secrets = tmp_path / "secrets"
        reached = {
            "nats_url": ",".join(node.url for node in three),
            "nats_ca": secrets / "ca.crt",
            "nats_user": "backup",
            "nats_password_file": secrets / "backup.password",
            "data_dir": tmp_path / "data",
        }
        await asyncio.to_thread(program, "create", str(tmp_path / "backups"), **reached)
        assert await census(client.jetstream()) == before
        with pytest.raises(AssertionError):
            await asyncio.to_thread(program, "restore", str(tmp_path / "backups"), "--replace", **reached)
        assert await census(client.jetstream()) == before
