"""A broker whose storage is full: services say so, and work again once there is room."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.errors import APIError, KeyNotFoundError

from shared.nats.errors import is_storage_full
from shared.service.bus import Bus
from shared.service.storage import StorageWatch
from tests.harness.broker import NatsServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def jetstream(tmp_path: Path) -> AsyncIterator[JetStreamContext]:
    """Of a broker that may store four megabytes."""
    config = tmp_path / "nats.conf"
    config.write_text("jetstream { max_file_store: 4MB }\n")
    with NatsServer(tmp_path / "broker", "-c", str(config)) as broker:
        client = await nats.connect(broker.url)
        jetstream = client.jetstream()
        await jetstream.create_key_value(bucket="files")
        await jetstream.add_stream(name="OTHERS", subjects=["others.>"])
        yield jetstream
        await client.close()


async def fill(jetstream: JetStreamContext) -> None:
    with pytest.raises(APIError) as caught:
        await asyncio.gather(*(jetstream.publish("others.x", bytes(200_000)) for _ in range(100)))
    assert is_storage_full(caught.value)


async def test_a_full_storage_is_noticed_and_so_is_room(jetstream: JetStreamContext) -> None:
    watch = StorageWatch(cast("Bus", SimpleNamespace(jetstream=jetstream, connected=True)), "gateway-1")
    assert await watch.check() == ""
    await fill(jetstream)
    # What is left is less than a record.
    while not await watch.check():
        await jetstream.publish("$KV.files.filler", bytes(30_000))
    assert "insufficient resources" in watch.full
    await jetstream.purge_stream("OTHERS")
    assert await watch.check() == ""


async def test_a_broker_that_is_away_is_not_a_full_one(jetstream: JetStreamContext) -> None:
    await jetstream.delete_stream("KV_files")
    watch = StorageWatch(cast("Bus", SimpleNamespace(jetstream=jetstream, connected=True)), "gateway-1")
    assert await watch.check() == ""


def test_an_error_of_a_record_that_is_not_there_says_nothing_of_storage() -> None:
    assert not is_storage_full(KeyNotFoundError())
