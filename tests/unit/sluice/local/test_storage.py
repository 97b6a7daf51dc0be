"""What the broker may use of a disk, and what becomes of it when that is full."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from sluice.local.broker import Broker, RestartError
from sluice.local.storage import DiskFullError, StorageBudget

pytestmark = pytest.mark.anyio

MIB = 2**20
GIB = 2**30


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The free bytes of every disk, as a test sets them."""
    disk = SimpleNamespace(bytes=100 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk.bytes))
    return disk


@pytest.mark.parametrize("gigabytes", [0.25, 0.5, 1, 2, 2.9, 3, 10, 1000])
def test_what_the_broker_sets_aside_fits_into_what_it_may_use(
    tmp_path: Path, free: SimpleNamespace, gigabytes: float
) -> None:
    free.bytes = int(gigabytes * GIB)
    budget = StorageBudget.of(tmp_path / "nats")
    budget.check(tmp_path)
    assert 2 * budget.history + budget.payloads <= budget.total // 2
    assert budget.total <= free.bytes
    assert budget.tight == (budget.history < GIB)


def test_a_large_disk_leaves_a_gigabyte_free_and_has_the_whole_history(tmp_path: Path, free: SimpleNamespace) -> None:
    budget = StorageBudget.of(tmp_path)
    assert (budget.total, budget.history, budget.tight) == (free.bytes - GIB, GIB, False)
    assert budget.payloads == GIB // 4


def test_a_history_that_is_there_is_not_cut_for_want_of_room(tmp_path: Path, free: SimpleNamespace) -> None:
    free.bytes = GIB // 2
    events = tmp_path / "jetstream" / "$G" / "streams" / "JOB_EVENTS" / "msgs"
    events.mkdir(parents=True)
    with (events / "1.blk").open("wb") as block:
        block.truncate(200 * MIB)
    budget = StorageBudget.of(tmp_path)
    assert budget.history == 200 * MIB
    assert 2 * budget.history + budget.payloads <= budget.total


def test_too_little_room_is_refused_with_what_to_do(tmp_path: Path, free: SimpleNamespace) -> None:
    free.bytes = 100 * MIB
    with pytest.raises(DiskFullError, match=r"100 MiB are free .* free some room, or choose another folder"):
        Broker(tmp_path).prepare()


async def test_a_broker_that_ran_out_of_room_waits_for_room_and_is_then_started_again(
    tmp_path: Path, free: SimpleNamespace
) -> None:
    broker = Broker(tmp_path)
    broker.prepare()
    broker.argv()
    assert await broker.probe() == "no port yet"
    free.bytes = 0
    assert "its disk is full" in str(await broker.probe())
    free.bytes = 20 * MIB
    assert "its disk is full" in str(await broker.probe())
    free.bytes = GIB
    with pytest.raises(RestartError):
        await broker.probe()
    broker.argv()
    assert await broker.probe() == "no port yet"


async def test_a_broker_that_logs_a_failed_write_is_started_again(tmp_path: Path, free: SimpleNamespace) -> None:
    log = tmp_path / "logs" / "nats.log"
    log.parent.mkdir()
    log.write_text("[ERR] of the start before: no space left on device\n")
    broker = Broker(tmp_path)
    broker.prepare()
    broker.argv()
    assert await broker.probe() == "no port yet"
    with log.open("a") as more:
        more.write("[ERR] JetStream failed to store a msg: write 1.blk: no space left on device\n")
    with pytest.raises(RestartError):
        await broker.probe()
