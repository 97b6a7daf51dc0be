"""The power fails, on a real file system: what was acknowledged is there afterwards, and what was not synced is not."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig

from shared.nats.client import connect
from tests.chaos.ledger import Fate, Ledger, digest
from tests.chaos.nodes import SYNCED, Node, free_ports
from tests.chaos.power_cuts import power_cuts
from tests.harness.volatile_disk import VolatileDisk, volatile_disk

CUTS = 4
"""Of a broker alone; and of the whole platform, which takes longer to start."""
PLATFORM_CUTS = 2
SEED = 5
MESSAGES = 150
PUBLISHERS = 8


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[VolatileDisk]:
    with volatile_disk(tmp_path / "disk", 1200) as disk:
        yield disk


def test_what_was_not_synced_is_lost(disk: VolatileDisk) -> None:
    (disk.folder / "lost").write_bytes(b"x" * 10_000)
    with (disk.folder / "kept").open("wb") as file:
        file.write(b"x" * 10_000)
        file.flush()
        os.fsync(file.fileno())
        file.write(b"y" * 10_000)
    disk.cut()
    disk.restore("noatime,commit=600")
    assert (disk.folder / "kept").read_bytes() == b"x" * 10_000
    lost = disk.folder / "lost"
    assert not lost.exists() or not lost.read_bytes()


async def acknowledged(node: Node, first: int) -> set[int]:
    """Publish until enough is acknowledged. Others are on their way at the end."""
    told: set[int] = set()
    client = await connect(node.url, allow_reconnect=False)
    jetstream = client.jetstream(timeout=5.0)
    await jetstream.add_stream(StreamConfig(name="numbers", subjects=["numbers"]))

    async def publish(number: int) -> None:
        while len(told) < MESSAGES:
            number += PUBLISHERS
            await jetstream.publish("numbers", str(number).encode())
            told.add(number)

    async with asyncio.TaskGroup() as tasks:
        for n in range(PUBLISHERS):
            tasks.create_task(publish(first + n))
    await client.close()
    return told


async def kept(node: Node) -> set[int]:
    client = await connect(node.url)
    found = set()
    try:
        subscription = await client.jetstream().pull_subscribe("numbers", stream="numbers")
        while True:
            messages = await subscription.fetch(500, timeout=1)
            found |= {int(message.data) for message in messages}
            if messages[-1].metadata.num_pending == 0:
                return found
    except NatsError:
        return found
    finally:
        await client.close()


def lost(disk: VolatileDisk, options: str) -> set[int]:
    """Messages that a broker has acknowledged and does not have after the power failed several times."""
    node = Node(disk.folder.parent / "node", "n0", free_ports(1)[0], [], store=disk.folder / "store", jetstream=options)
    told: set[int] = set()
    try:
        for cut in range(CUTS):
            node.start()
            node.wait()
            told |= asyncio.run(acknowledged(node, cut * 1_000_000))
            node.freeze()
            disk.cut()
            node.stop()
            disk.restore("noatime,commit=600")
        node.start()
        node.wait()
        return told - asyncio.run(kept(node))
    finally:
        node.stop()


def test_a_broker_that_syncs_loses_nothing_that_it_acknowledged(disk: VolatileDisk) -> None:
    assert lost(disk, SYNCED) == set()


def test_a_broker_by_default_loses_what_it_acknowledged(disk: VolatileDisk) -> None:
    """Otherwise the test above would prove nothing."""
    assert lost(disk, "")


@pytest.mark.timeout(600)
def test_the_platform_loses_nothing_that_it_acknowledged(disk: VolatileDisk) -> None:
    cuts = power_cuts(disk, SEED, PLATFORM_CUTS)
    assert cuts.wrong == []
    assert len(cuts.accepted) == PLATFORM_CUTS
    assert cuts.documents


def test_a_document_is_what_was_told_last_or_what_nobody_answered_since() -> None:
    ledger = Ledger()
    ledger.sending({"a": "one"})
    ledger.accepted({"a": "one"}, "job")
    assert ledger.judge({"a": digest("one")}) == []
    assert ledger.judge({})
    assert ledger.judge({"a": digest("two")})
    assert ledger.judge({"a": digest("one"), "b": digest("one")})
    ledger.sending({"a": ""})
    assert ledger.judge({}) == []
    ledger.settle({})
    assert ledger.fates == {"a": Fate(told="")}
    assert ledger.judge({"a": digest("one")})


def test_an_ended_job_stays_as_it_ended() -> None:
    ledger = Ledger()
    ledger.accepted({"a": "one"}, "job")
    assert ledger.seen("job", "running") == ""
    assert ledger.seen("job", "queued") == ""
    assert ledger.seen("job", "succeeded") == ""
    assert ledger.seen("job", "running")
