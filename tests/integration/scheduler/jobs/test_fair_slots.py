"""Jobs of one tenant do not keep those of another waiting, however many they are and however long they take."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from services.scheduler.jobs.kinds import JobKind, Pool
from services.scheduler.jobs.queue import JobQueue
from shared.contracts.jobs import DropSpec, JobOptions
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import JOBS
from shared.runtime.delivery import Delivery
from shared.service.bus import Bus
from shared.stores.jobs.limits import most_waiting
from shared.stores.jobs.store import JobStore
from shared.tasks import background
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness, until

pytestmark = pytest.mark.anyio

SPEC = DropSpec(collection="docs", table="docs-1")


class CountedKinds(dict[str, JobKind]):
    """Counts how often the queue looks at what a subject stands for."""

    looks = 0

    def __getitem__(self, kind: str) -> JobKind:
        self.looks += 1
        return super().__getitem__(kind)


class HeldJobs:
    """Takes jobs and holds each until it is let go. `started` are the tenants, in order."""

    def __init__(self, harness: StageHarness) -> None:
        self.kinds = CountedKinds()
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.store = JobStore(harness.client, harness.jetstream)
        self.jetstream, self.topology = harness.jetstream, harness.topology
        self._harness = harness
        self._held: dict[str, list[asyncio.Event]] = {}

    async def submit(self, tenant: str, count: int = 1, **options: object) -> None:
        for number in range(count):
            chosen = JobOptions.model_validate(options)
            await self.store.submit(SPEC, job=f"{tenant}-{len(options)}-{number}", tenant=tenant, options=chosen)

    async def next(self) -> str:
        async with asyncio.timeout(30):
            return await self.started.get()

    def let_go(self, tenant: str) -> None:
        self._held[tenant].pop().set()

    @asynccontextmanager
    async def working(self, slots: int, spare: int, weights: Mapping[str, float]) -> AsyncIterator[None]:
        bus = SimpleNamespace(
            client=self._harness.client,
            jetstream=self._harness.jetstream,
            topology=self._harness.topology,
            connected=True,
        )

        async def never(_: object) -> None:
            raise AssertionError

        async def give_back(job: str, tenant: str) -> None: ...

        self.kinds["drop"] = JobKind(name="drop", pool=Pool.SHORT, perform=never)
        self.queue = queue = JobQueue(
            cast("Bus", bus),
            self.kinds,
            handle=self._hold,
            give_back=give_back,
            slots={Pool.SHORT: slots},
            spare=spare,
            weights=weights,
            ack_wait=5.0,
        )
        async with background(queue.run()):
            yield

    async def _hold(self, delivery: Delivery) -> None:
        tenant = delivery.subject.rpartition(".")[2]
        go = asyncio.Event()
        self._held.setdefault(tenant, []).append(go)
        self.started.put_nowait(tenant)
        await go.wait()
        await delivery.ack()


@pytest.fixture
async def jobs(broker: NatsServer) -> AsyncIterator[HeldJobs]:
    async with open_stage_harness(broker.url, ack_wait=5.0) as harness:
        yield HeldJobs(harness)


async def test_a_newcomers_job_starts_while_another_tenant_holds_every_slot(jobs: HeldJobs) -> None:
    await jobs.submit("many", 10)
    async with jobs.working(slots=3, spare=2, weights={}):
        assert [await jobs.next() for _ in range(3)] == ["many"] * 3
        for tenant in ("one", "two"):
            await jobs.submit(tenant, 2)
            assert await jobs.next() == tenant
        # Both spare slots are taken. A free one goes to the tenant with the least, not to the one with the most jobs.
        await jobs.submit("three")
        jobs.let_go("one")
        assert await jobs.next() == "three"


async def test_slots_kept_for_high_priority_are_kept_from_newcomers_too(jobs: HeldJobs) -> None:
    await jobs.submit("many", 10)
    async with jobs.working(slots=4, spare=1, weights={}):
        assert [await jobs.next() for _ in range(3)] == ["many"] * 3
        await jobs.submit("one")
        assert await jobs.next() == "one"
        await jobs.submit("two")
        await jobs.submit("urgent", priority="high")
        assert await jobs.next() == "urgent"


async def test_while_all_slots_are_taken_the_tenants_that_wait_cost_nothing(jobs: HeldJobs) -> None:
    async with jobs.working(slots=2, spare=0, weights={}):
        await jobs.submit("many", 2)
        assert [await jobs.next() for _ in range(2)] == ["many"] * 2
        for number in range(40):
            await jobs.submit(f"tenant-{number:02}")

        async def known() -> bool:
            return len(jobs.queue._subjects) == 41

        await until(known, "all tenants known")
        before = jobs.kinds.looks
        assert jobs.queue._next() is None
        assert jobs.kinds.looks == before
        # Of those that have had nothing, each gets its turn.
        jobs.let_go("many")
        started = [await jobs.next()]
        while len(started) < 40:
            jobs.let_go(started[-1])
            started.append(await jobs.next())
        assert len(set(started)) == 40


async def test_whose_turn_is_next_costs_the_same_however_many_wait(jobs: HeldJobs) -> None:
    async with jobs.working(slots=3, spare=0, weights={}):
        await jobs.submit("many", 2)
        assert [await jobs.next() for _ in range(2)] == ["many"] * 2

    def looks(tenants: int) -> int:
        for number in range(tenants):
            jobs.queue._learn(f"job.drop.normal.tenant-{number}")
        before = jobs.kinds.looks
        assert jobs.queue._next() is not None
        return jobs.kinds.looks - before

    assert looks(10) == looks(1_000)


async def test_queues_that_are_empty_leave_no_consumer_behind(jobs: HeldJobs, broker: NatsServer) -> None:
    async def consumers() -> int:
        return (await jobs.jetstream.stream_info(JOBS)).state.consumer_count

    async with jobs.working(slots=2, spare=0, weights={}):
        for number in range(5):
            await jobs.submit(f"gone-{number}")
        started = [await jobs.next(), await jobs.next()]
        info = await jobs.jetstream.consumer_info(JOBS, f"drop_normal_{started[0]}")
        assert info.config.mem_storage
        while len(started) < 5:
            jobs.let_go(started[-1])
            started.append(await jobs.next())
        # One that holds a job in work stays.
        jobs.let_go(started[-1])
        await until(lambda: _equal(consumers, 1), "one consumer left")
        assert (await jobs.jetstream.consumer_info(JOBS, f"drop_normal_{started[0]}")).num_ack_pending == 1
        await jobs.submit("gone-3", 1, labels={"again": "yes"})
        assert await jobs.next() == "gone-3"


async def test_a_queue_that_an_earlier_release_has_made_on_disk_is_used_as_it_is(jobs: HeldJobs) -> None:
    await jobs.topology.ensure_job_consumer("job.drop.normal.old")
    async with jobs.working(slots=2, spare=0, weights={}):
        await jobs.submit("old")
        assert await jobs.next() == "old"


@pytest.mark.parametrize("lasting", [True, False])
async def test_a_queue_stays_in_the_storage_in_which_another_release_has_made_it(jobs: HeldJobs, lasting: bool) -> None:
    name = await jobs.topology.ensure_job_consumer("job.drop.normal.old", lasting=not lasting)
    assert await jobs.topology.ensure_job_consumer("job.drop.normal.old", lasting=lasting) == name
    assert bool((await jobs.jetstream.consumer_info(JOBS, name)).config.mem_storage) == lasting


async def _equal(count: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await count() == wanted


async def test_too_many_waiting_jobs_of_a_tenant_are_refused_and_others_still_find_room(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, job_limit=10, job_tenant_limit=3) as harness:
        jobs = HeldJobs(harness)
        await jobs.submit("many", 3)
        with pytest.raises(Problem) as caught:
            await jobs.submit("many", 1, priority="high")
        assert caught.value.kind is ProblemType.QUEUE_FULL
        assert "tenant 'many'" in caught.value.detail
        assert caught.value.headers == {"Retry-After": "60"}
        await jobs.submit("other", 3)
        await jobs.submit("third", 2)
        with pytest.raises(Problem):  # half of the four that the others leave
            await jobs.submit("third", 1, priority="high")
        await jobs.submit("fourth", 1)


def test_there_is_always_room_left_for_one_more_tenant() -> None:
    waiting: dict[str, int] = {}
    for tenant in "abcdefg":
        for _ in range(1000):
            others = sum(waiting.values()) - waiting.get(tenant, 0)
            if waiting.get(tenant, 0) < most_waiting(1000, 1000, others):
                waiting[tenant] = waiting.get(tenant, 0) + 1
    assert waiting == {"a": 500, "b": 250, "c": 125, "d": 63, "e": 31, "f": 16, "g": 8}
