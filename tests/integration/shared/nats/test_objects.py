"""Objects are read within a bound of time."""

import io

import pytest
from nats.js.errors import ObjectNotFoundError

from shared.nats.objects import read_object
from tests.harness.stage_harness import StageHarness

pytestmark = pytest.mark.anyio


async def test_an_object_is_read_whole_or_into_a_file(harness: StageHarness) -> None:
    store = await harness.jetstream.create_object_store("shelf")
    data = bytes(range(256)) * 2000
    await store.put("book", data)
    file = io.BytesIO()
    assert await read_object(store, "book") == data
    assert await read_object(store, "book", file) == b""
    assert file.getvalue() == data
    with pytest.raises(ObjectNotFoundError):
        await read_object(store, "nothing")


async def test_an_object_whose_pieces_do_not_come_is_given_up(harness: StageHarness) -> None:
    store = await harness.jetstream.create_object_store("shelf")
    info = await store.put("book", b"text")
    await harness.jetstream.purge_stream("OBJ_shelf", subject=f"$O.shelf.C.{info.nuid}")
    with pytest.raises(TimeoutError):
        await read_object(store, "book", timeout=0.05)
