"""The last messages of a stream, on a real broker."""

import asyncio
from typing import Any

import pytest
from nats.aio.msg import Msg

from shared.nats.kv import Repository
from shared.nats.paging import last_messages
from shared.nats.subjects import ROUTES
from tests.harness.stage_harness import StageHarness

pytestmark = pytest.mark.anyio


def repository(harness: StageHarness) -> Repository[bytes]:
    return Repository(harness.jetstream, ROUTES, bytes, encode=bytes)


async def test_the_newest_records_are_found_among_many_of_others(harness: StageHarness) -> None:
    records = repository(harness)
    for number in range(5):
        await records.put(f"mine.{number}", b"%d" % number)
    for number in range(400):
        await records.put(f"theirs.{number}", b"")
    newest = await records.newest("mine.*", 2)
    assert [stored.record for stored in newest] == [b"4", b"3"]
    older = await records.newest("mine.*", 10, before=newest[-1].revision)
    assert [stored.record for stored in older] == [b"2", b"1", b"0"]
    assert list(await records.newest("mine.*", 10, before=older[-1].revision)) == []
    assert list(await records.newest("nobodys.*", 10)) == []


async def test_removed_records_are_passed_over_and_changed_ones_come_first(harness: StageHarness) -> None:
    records = repository(harness)
    for number in range(200):
        await records.put(f"mine.{number}", b"%d" % number)
    for number in range(10, 200):
        await records.delete(f"mine.{number}")
    await records.purge("mine.9")
    await records.put("mine.2", b"2 again")
    newest = [stored.record for stored in await records.newest("mine.*", 4)]
    assert newest == [b"2 again", b"8", b"7", b"6"]


async def test_a_record_that_is_written_again_and_again_is_on_every_page(harness: StageHarness) -> None:
    records = repository(harness)
    await records.put("mine.1", b"")

    async def write() -> None:
        for _ in range(300):
            await records.put("mine.1", b"")

    writing = asyncio.create_task(write())
    while not writing.done():
        assert len(await records.newest("mine.*", 1)) == 1
    await writing


async def test_many_removals_in_a_row_are_passed_over_in_few_steps(
    harness: StageHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    portions: list[int] = []

    async def counted(*args: Any, **named: Any) -> list[Msg]:
        portions.append(args[3])
        return await last_messages(*args, **named)

    monkeypatch.setattr("shared.nats.kv.last_messages", counted)
    records = repository(harness)
    await records.put("mine.kept", b"kept")
    for number in range(700):
        await records.purge(f"mine.{number}")
    await records.put("mine.new", b"new")
    newest = await records.newest("mine.*", 10)
    assert [stored.record for stored in newest] == [b"new", b"kept"]
    older = await records.newest("mine.*", 1, before=newest[0].revision)
    assert [stored.record for stored in older] == [b"kept"]
    assert len(portions) <= 12
