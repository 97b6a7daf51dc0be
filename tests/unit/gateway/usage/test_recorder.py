"""What a gateway counts, and when it writes it."""

import asyncio
from datetime import date

import pytest
from nats.errors import ConnectionClosedError, MaxPayloadError

from services.gateway.usage.models import UsageRecord, UsageRow
from services.gateway.usage.recorder import MOST_ROWS, OTHER, UsageRecorder, write_regularly
from shared.contracts.events import Usage

pytestmark = pytest.mark.anyio

MONDAY, TUESDAY = date(2026, 11, 30), date(2026, 12, 1)
ANSWER = Usage(prompt_tokens=10, completion_tokens=3, cached_tokens=4)


class MemoryStore:
    """The records that were written, in the process; each of `failures` is raised once instead. A write waits until it
    `may_end`."""

    def __init__(self, *failures: Exception) -> None:
        self.records: dict[tuple[str, date, str], UsageRecord] = {}
        self.puts = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.written = asyncio.Event()
        self._failures = list(failures)

    async def put(self, tenant: str, day: date, record_id: str, record: UsageRecord) -> None:
        self.begun.set()
        await self.may_end.wait()
        if self._failures:
            raise self._failures.pop(0)
        self.puts += 1
        self.records[tenant, day, record_id] = record
        self.written.set()

    def rows(self, tenant: str, day: date = MONDAY) -> list[UsageRow]:
        return [row for (t, d, _), record in self.records.items() if (t, d) == (tenant, day) for row in record.rows]


class Clock:
    def __init__(self) -> None:
        self.day = MONDAY

    def __call__(self) -> date:
        return self.day


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Clock) -> UsageRecorder:
    return UsageRecorder(clock)


async def test_answers_are_summed_by_tenant_key_and_model(recorder: UsageRecorder) -> None:
    store = MemoryStore()
    for tenant, key, model in (("a", "k1", "m"), ("a", "k1", "m"), ("a", "k2", "m"), ("a", "k1", "n"), ("b", "", "m")):
        recorder.record(tenant, key, model, ANSWER)
    assert await recorder.write(store)
    one = {"requests": 1, "prompt_tokens": 10, "completion_tokens": 3, "cached_tokens": 4}
    assert store.rows("a") == [
        UsageRow(key="k1", model="m", requests=2, prompt_tokens=20, completion_tokens=6, cached_tokens=8),
        UsageRow(key="k2", model="m", **one),
        UsageRow(key="k1", model="n", **one),
    ]
    assert store.rows("b") == [UsageRow(key="", model="m", **one)]


async def test_a_record_is_written_again_only_when_it_has_changed(recorder: UsageRecorder) -> None:
    store = MemoryStore()
    recorder.record("a", "k", "m", ANSWER)
    for _ in range(3):
        await recorder.write(store)
    assert store.puts == 1
    recorder.record("a", "k", "m", ANSWER)
    await recorder.write(store)
    assert (store.puts, len(store.records)) == (2, 1)
    assert store.rows("a")[0].requests == 2


async def test_what_the_broker_does_not_take_is_written_later(recorder: UsageRecorder) -> None:
    store = MemoryStore(ConnectionClosedError(), TimeoutError())
    recorder.record("a", "k", "m", ANSWER)
    assert not await recorder.write(store)
    recorder.record("a", "k", "m", ANSWER)
    assert not await recorder.write(store)
    assert await recorder.write(store)
    assert store.rows("a")[0].requests == 2


@pytest.fixture
async def held(recorder: UsageRecorder) -> tuple[MemoryStore, asyncio.Task[bool]]:
    """A store in the middle of the first write, and that write."""
    store = MemoryStore()
    store.may_end.clear()
    recorder.record("a", "k", "m", ANSWER)
    writing = asyncio.create_task(recorder.write(store))
    await store.begun.wait()
    return store, writing


async def test_what_comes_during_a_write_is_part_of_the_next(
    recorder: UsageRecorder, held: tuple[MemoryStore, asyncio.Task[bool]]
) -> None:
    store, writing = held
    recorder.record("a", "k", "m", ANSWER)
    store.may_end.set()
    await writing
    await recorder.write(store)
    assert store.rows("a")[0].requests == 2


async def test_a_cancelled_write_loses_nothing(
    recorder: UsageRecorder, held: tuple[MemoryStore, asyncio.Task[bool]]
) -> None:
    store, writing = held
    writing.cancel()
    await asyncio.wait([writing])
    assert store.puts == 0
    store.may_end.set()
    await recorder.write(store)
    assert store.rows("a")[0].requests == 1


async def test_midnight_begins_new_records_and_the_old_ones_are_kept_until_they_are_written(
    recorder: UsageRecorder, clock: Clock
) -> None:
    store = MemoryStore(TimeoutError())
    recorder.record("a", "k", "m", ANSWER)
    clock.day = TUESDAY
    recorder.record("a", "k", "m", ANSWER)
    await recorder.write(store)
    await recorder.write(store)
    assert store.rows("a", MONDAY) == store.rows("a", TUESDAY)


async def test_a_clock_that_is_set_back_overwrites_no_record(recorder: UsageRecorder, clock: Clock) -> None:
    store = MemoryStore()
    for day in (MONDAY, TUESDAY, MONDAY):
        clock.day = day
        recorder.record("a", "k", "m", ANSWER)
        clock.day = TUESDAY
        await recorder.write(store)
    assert sum(row.requests for row in store.rows("a", MONDAY)) == 2


async def test_rows_beyond_the_bound_are_summed_in_one(recorder: UsageRecorder) -> None:
    store = MemoryStore()
    for number in range(MOST_ROWS + 5):
        recorder.record("a", f"key{number}", "m", ANSWER)
    recorder.record("a", "key0", "m", ANSWER)
    recorder.record("b", "key0", "m", ANSWER)
    await recorder.write(store)
    rows = {(row.key, row.model): row.requests for row in store.rows("a")}
    assert len(rows) == MOST_ROWS + 1
    assert (rows["key0", "m"], rows[OTHER, OTHER]) == (2, 5)
    assert len(store.rows("b")) == 1


async def test_a_record_that_the_broker_refuses_holds_up_no_other(recorder: UsageRecorder) -> None:
    store = MemoryStore(MaxPayloadError())
    recorder.record("a", "k", "m", ANSWER)
    recorder.record("b", "k", "m", ANSWER)
    assert not await recorder.write(store)
    assert (store.rows("a"), store.rows("b")[0].requests) == ([], 1)


@pytest.mark.parametrize("character", ["語", "\U0001f600", "\x01", "\ud800", '"'])
async def test_a_record_fits_into_a_message_whatever_its_names_are(recorder: UsageRecorder, character: str) -> None:
    store = MemoryStore()
    for number in range(MOST_ROWS + 1):
        recorder.record("a", f"{number:04}" + character * 400, character * 400, ANSWER)
    await recorder.write(store)
    (record,) = store.records.values()
    assert len(record.model_dump_json().encode()) < 2**20


class Bus:
    """Away, and seen to be so 20 times before it may come back."""

    def __init__(self) -> None:
        self.back = False
        self.looks = 0
        self.looked_at = asyncio.Event()

    @property
    def connected(self) -> bool:
        self.looks += 1
        if self.looks == 20:
            self.looked_at.set()
        return self.back


async def test_nothing_is_tried_while_the_broker_is_away(recorder: UsageRecorder) -> None:
    store, bus = MemoryStore(), Bus()
    recorder.record("a", "k", "m", ANSWER)
    writing = asyncio.create_task(write_regularly(recorder, store, bus, interval=0))
    async with asyncio.timeout(10):
        await bus.looked_at.wait()
    assert store.puts == 0
    bus.back = True
    async with asyncio.timeout(10):
        await store.written.wait()
    writing.cancel()
