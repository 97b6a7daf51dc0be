"""Schedules: jobs are submitted on time, each tick once, whatever dies meanwhile."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.scheduler.schedules.ticker import Ticker, tick_job
from shared.contracts.jobs import Job, JobOptions, JobState, SwitchSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.schedules import Missed, Overlap, Schedule
from shared.nats.subjects import DUE, TIMERS
from shared.runtime.delivery import Delivery
from shared.runtime.pull import PullConsumer
from shared.service.bus import Bus
from shared.stores.schedules import Schedules
from shared.tasks import background
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

SPEC = SwitchSpec(collection="docs")


class Clock:
    """Schedules of the default tenant, and schedulers that hear their ticks."""

    def __init__(self, job_harness: JobHarness) -> None:
        self.job_harness = job_harness
        self.schedules = Schedules(job_harness.bus.jetstream)
        self.ticker = Ticker(job_harness.bus, job_harness.job_store)

    def schedule(self, name: str = "s", **members: Any) -> Schedule:
        timing = {} if members.keys() & {"cron", "every"} else {"cron": "* * * * * *"}
        return Schedule.model_validate(
            {"name": name, "tenant": "default", "spec": SPEC, "created_at": time.time(), **timing, **members}
        )

    async def put(self, name: str = "s", **members: Any) -> Schedule:
        return (await self.schedules.put(self.schedule(name, **members)))[0]

    async def get(self, name: str = "s") -> Schedule:
        return await self.schedules.get("default", name)

    def running(self) -> AbstractAsyncContextManager[None]:
        """A scheduler takes what is due."""
        consumer = PullConsumer(
            self.job_harness.bus.client,
            stream=TIMERS,
            consumer=DUE,
            room=lambda: 8,
            handle=self._take,
            repair=self.job_harness.bus.topology.ensure,
            ack_wait=1.0,
        )
        return background(consumer.run())

    async def _take(self, delivery: Delivery) -> None:
        await self.ticker.tick(delivery)
        await delivery.ack()

    async def jobs(self) -> list[Job]:
        return await self.job_harness.job_store.list("default", limit=1000)

    async def timers(self) -> set[str]:
        info = await self.job_harness.bus.jetstream.stream_info(TIMERS, subjects_filter="timer.>")
        return set(info.state.subjects or {})

    def at_least(self, number: int) -> Callable[[], Awaitable[list[Job]]]:
        async def look() -> list[Job]:
            found = await self.jobs()
            return found if len(found) >= number else []

        return look

    async def due(self, at: float, *, name: str = "s") -> None:
        """A tick of this time arrives now."""
        delivery = cast(
            "Delivery",
            SimpleNamespace(subject=f"due.tick.default.{name}", stored_at=at, headers={}, data=b""),
        )
        await self.ticker.tick(delivery)


def tick_of(job: Job) -> int:
    """The Unix time of the tick that a job is of."""
    return int(job.id.split("-")[-2])


@pytest.fixture
async def clock(broker: NatsServer) -> AsyncIterator[Clock]:
    async with open_job_harness(broker.url) as job_harness:
        yield Clock(job_harness)


async def test_each_tick_is_one_job_that_carries_what_the_schedule_says(clock: Clock) -> None:
    options = JobOptions(labels={"team": "search"})
    await clock.put(options=options, timeout=60.0)
    async with clock.running():
        jobs: list[Job] = await until(clock.at_least(3))
    assert len({job.id for job in jobs}) == len(jobs)
    job = jobs[0]
    assert (job.kind, job.options.schedule, job.options.by) == ("switch", "s", "schedule s")
    assert job.options.labels == {"team": "search"}
    assert job.options.deadline is not None
    assert 50 < job.options.deadline - time.time() <= 60
    schedule = await clock.get()
    assert schedule.last_job is not None
    assert schedule.last_at is not None
    assert schedule.next_at == schedule.last_at + 1


async def test_a_tick_that_is_delivered_again_is_the_same_job(clock: Clock) -> None:
    await clock.put(cron="@daily")
    now = time.time()
    for _ in range(3):
        await clock.due(now)
    (job,) = await clock.jobs()
    assert job.id == tick_job("default", "s", round(now))


async def test_ticks_go_on_over_the_death_of_the_broker_and_of_the_scheduler(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with open_job_harness(broker.url) as job_harness:
        clock = Clock(job_harness)
        await clock.put()
        async with clock.running():
            before = len(await until(clock.at_least(2)))
        broker.kill()
        broker.start()
    async with open_job_harness(broker.url) as job_harness:
        clock = Clock(job_harness)
        await clock.ticker.catch_up()
        async with clock.running():
            jobs: list[Job] = await until(clock.at_least(before + 3))
    ticks = sorted(tick_of(job) for job in jobs)
    assert len(set(ticks)) == len(ticks)
    assert ticks[-1] - ticks[-2] == 1
    assert all(job.created_at >= tick_of(job) for job in jobs)


async def test_a_paused_schedule_does_not_tick_until_it_is_resumed(clock: Clock) -> None:
    await clock.put(paused=True)
    assert await clock.timers() == set()
    await clock.put("other", every="1s")
    async with clock.running():
        await until(clock.at_least(2))
        assert {job.options.schedule for job in await clock.jobs()} == {"other"}
        assert (await clock.schedules.pause("default", "other")).next_at is None
        assert await clock.timers() == set()
        paused_at = time.time()
        await clock.due(paused_at, name="other")
        assert (await clock.schedules.resume("default", "s")).next_at is not None

        async def resumed() -> bool:
            return any(job.options.schedule == "s" for job in await clock.jobs())

        await until(resumed)
    assert all(tick_of(job) <= paused_at for job in await clock.jobs() if job.options.schedule == "other")


async def test_an_unchanged_timing_is_not_begun_anew_and_a_changed_one_is(clock: Clock) -> None:
    async def timer() -> int:
        return int((await clock.job_harness.bus.jetstream.get_msg(TIMERS, subject="timer.cron.default.s")).seq or 0)

    first = await clock.put(every="1h")
    begun = await timer()
    again = await clock.put(every="1h", spec=SwitchSpec(collection="other"))
    assert (await timer(), again.next_at, again.created_at) == (begun, first.next_at, first.created_at)
    assert (await clock.get()).spec == SwitchSpec(collection="other")
    await clock.put(every="2h")
    assert await timer() > begun


async def test_a_deleted_schedule_is_gone_with_its_timer(clock: Clock) -> None:
    await clock.put()
    await clock.schedules.delete("default", "s")
    assert await clock.timers() == set()
    with pytest.raises(Problem) as caught:
        await clock.get()
    assert caught.value.kind is ProblemType.NOT_FOUND
    assert await clock.schedules.list("default") == []


async def test_a_timer_that_nobody_knows_is_taken_away(clock: Clock) -> None:
    await clock.put("known", cron="@daily")
    headers = {"Nats-Schedule": "* * * * * *", "Nats-Schedule-Target": "due.tick.default.lost"}
    await clock.job_harness.bus.jetstream.publish("timer.cron.default.lost", b"", headers=headers)
    async with clock.running():

        async def gone() -> bool:
            return await clock.timers() == {"timer.cron.default.known"}

        await until(gone)
    assert await clock.jobs() == []


async def test_a_timer_that_was_lost_is_set_again(clock: Clock) -> None:
    await clock.put(cron="@daily")
    await clock.put("paused", cron="@daily", paused=True)
    await clock.schedules.stop("default", "s")
    await clock.ticker.catch_up()
    assert await clock.timers() == {"timer.cron.default.s"}


@pytest.mark.parametrize("missed", list(Missed))
async def test_ticks_missed_while_all_was_down_are_run_once_or_skipped(clock: Clock, missed: Missed) -> None:
    await clock.put(cron="@hourly", missed=missed)
    due = time.time() - 3 * 3600
    await clock.schedules.change("default", "s", lambda old: old.model_copy(update={"next_at": due}))
    other = Ticker(clock.job_harness.bus, clock.job_harness.job_store)
    for ticker in (clock.ticker, other, clock.ticker):
        await ticker.catch_up()
    # The ticks that came while no scheduler lived have waited; the first of them is the one that was made up for.
    for hours in (3, 2, 1):
        await clock.due(time.time() - hours * 3600)
    jobs = await clock.jobs()
    schedule = await clock.get()
    assert schedule.next_at is not None
    assert schedule.next_at > time.time()
    if missed is Missed.RUN_ONCE:
        assert [job.id for job in jobs] == [tick_job("default", "s", round(due))]
        assert schedule.last_at == round(due)
    else:
        assert jobs == []
        assert schedule.skipped_at == due


@pytest.mark.parametrize("overlap", list(Overlap))
async def test_a_tick_counts_or_not_while_the_last_job_still_runs(clock: Clock, overlap: Overlap) -> None:
    await clock.put(cron="@daily", overlap=overlap)
    now = time.time()
    await clock.due(now - 2)
    await clock.due(now - 1)
    jobs = await clock.jobs()
    assert len(jobs) == (1 if overlap is Overlap.SKIP else 2)
    ended = {"state": JobState.SUCCEEDED, "finished_at": now}
    for job in jobs:
        await clock.job_harness.job_store.update("default", job.id, lambda old: old.model_copy(update=ended))
    await clock.due(now)
    assert len(await clock.jobs()) == len(jobs) + 1
    assert (await clock.get()).last_at == round(now)


async def test_the_next_tick_of_a_daily_schedule_is_that_of_its_zone(clock: Clock) -> None:
    moments = {}
    for name, zone in (("utc", None), ("berlin", "Europe/Berlin"), ("tokyo", "Asia/Tokyo")):
        schedule = await clock.put(name, cron="0 3 * * *", zone=zone)
        assert schedule.next_at is not None
        moments[name] = datetime.fromtimestamp(schedule.next_at, UTC)
    assert moments["utc"].hour == 3
    assert moments["tokyo"].hour == 18
    assert moments["berlin"].hour in (1, 2)


async def test_the_next_tick_that_the_broker_tells_is_the_one_that_is_reckoned(clock: Clock) -> None:
    await clock.put(cron="* * * * * *", zone="Asia/Kolkata")

    async def noted() -> bool:
        return (await clock.get()).last_at is not None

    async with clock.running():
        await until(noted)
    schedule = await clock.get()
    assert schedule.last_at is not None
    assert schedule.next_at == schedule.after(schedule.last_at)


async def test_the_same_schedule_of_two_tenants_makes_two_jobs(clock: Clock) -> None:
    now = time.time()
    for tenant in ("default", "other"):
        await clock.schedules.put(clock.schedule(cron="@daily", tenant=tenant))
        delivery = SimpleNamespace(subject=f"due.tick.{tenant}.s", stored_at=now, headers={}, data=b"")
        await clock.ticker.tick(cast("Delivery", delivery))
    job_store = clock.job_harness.job_store
    ids = {job.id for tenant in ("default", "other") for job in await job_store.list(tenant)}
    assert len(ids) == 2


async def test_a_bus_without_schedules_has_nothing_to_catch_up_with(clock: Clock) -> None:
    await Ticker(cast("Bus", clock.job_harness.bus), clock.job_harness.job_store).catch_up()
    assert await clock.jobs() == []
