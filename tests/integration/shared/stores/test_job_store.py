"""The job board: one job for one id, and every change counted."""

import asyncio

import pytest
from nats.aio.msg import Msg

from shared.contracts.jobs import DeleteSpec, IngestSpec, Job, JobOptions, JobState, Priority, decode_spec, job_id
from shared.contracts.problems import Problem, ProblemType
from shared.stores.jobs.store import JobStore, fresh_job
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness

pytestmark = pytest.mark.anyio

SPEC = IngestSpec(collection="docs", documents=())


def board(harness: StageHarness) -> JobStore:
    return JobStore(harness.client, harness.jetstream)


async def waiting(harness: StageHarness) -> int:
    return (await harness.jetstream.stream_info("JOBS")).state.messages


async def test_the_same_id_twice_is_one_job_whoever_submits_it(harness: StageHarness) -> None:
    boards = [board(harness) for _ in range(8)]
    key = job_id("t", "same key")
    results = await asyncio.gather(*(each.submit(SPEC, job=key, tenant="t") for each in boards))
    assert sum(created for _, created in results) == 1
    assert len({job.created_at for job, _ in results}) == 1
    assert await waiting(harness) == 1
    assert [job.id for job in await board(harness).list("t")] == [key]


async def test_an_id_that_stands_for_another_job_is_a_conflict(harness: StageHarness) -> None:
    await board(harness).submit(SPEC, job="j", tenant="t")
    with pytest.raises(Problem) as caught:
        await board(harness).submit(DeleteSpec(collection="docs", documents=()), job="j", tenant="t")
    assert caught.value.kind is ProblemType.CONFLICT


async def test_the_same_id_of_another_tenant_is_another_entry(harness: StageHarness) -> None:
    await board(harness).submit(SPEC, job=job_id("a", "k"), tenant="a")
    await board(harness).submit(SPEC, job=job_id("b", "k"), tenant="b")
    assert await waiting(harness) == 2
    assert len(await board(harness).list("a")) == 1


async def test_a_submitter_who_died_before_the_entry_is_completed_by_the_next_try(harness: StageHarness) -> None:
    died = fresh_job(SPEC, job="j", tenant="t", options=JobOptions(), created_at=1.0)
    await board(harness).requeue(SPEC, died, attempt=1)
    job, created = await board(harness).submit(SPEC, job="j", tenant="t")
    assert (job.id, created) == ("j", False)
    assert await waiting(harness) == 1


async def test_a_change_whose_author_died_before_the_copy_is_seen_by_the_next_one(harness: StageHarness) -> None:
    first, _ = await board(harness).submit(SPEC, job="j", tenant="t")
    cancelled = first.model_copy(update={"state": JobState.CANCELLED})
    assert await board(harness)._announce(cancelled, after=first.event, by="operator", reason="no longer needed")
    assert (await board(harness).get("t", "j")).state is JobState.QUEUED
    seen = await board(harness).update("t", "j", lambda job: job.model_copy(update={"state": JobState.RUNNING}))
    assert seen.state is JobState.CANCELLED
    assert await board(harness).get("t", "j") == seen


async def test_a_cancel_ends_what_waits_and_asks_what_runs_to_end(harness: StageHarness) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        heard.put_nowait(message.subject)

    await harness.client.subscribe("control.job.*.cancel", cb=hear)
    await board(harness).submit(SPEC, job="waits", tenant="t")
    await board(harness).submit(SPEC, job="runs", tenant="t")
    await board(harness).update("t", "runs", lambda job: job.model_copy(update={"state": JobState.RUNNING}))
    assert (await board(harness).cancel("t", "waits", by="me", reason="wrong file")).state is JobState.CANCELLED
    running = await board(harness).cancel("t", "runs")
    assert (running.state, running.cancel_requested) == (JobState.RUNNING, True)
    assert await asyncio.wait_for(heard.get(), 10) == "control.job.waits.cancel"
    assert await asyncio.wait_for(heard.get(), 10) == "control.job.runs.cancel"
    event = await harness.jetstream.get_msg("JOB_EVENTS", subject="event.job.waits.cancelled")
    assert (event.headers or {})["ce-by"] == "me"
    assert (event.headers or {})["ce-reason"] == "wrong file"


async def test_a_job_travels_as_a_cloud_event(harness: StageHarness) -> None:
    await board(harness).submit(SPEC, job="j", tenant="t", options=JobOptions(priority=Priority.HIGH))
    message = await harness.jetstream.get_msg("JOBS", 1)
    assert message.subject == "job.ingest.high.t"
    assert decode_spec(message.data or b"") == SPEC
    headers = message.headers or {}
    assert headers["ce-specversion"] == "1.0"
    assert (headers["ce-id"], headers["ce-type"], headers["ce-subject"]) == ("j", "io.sluice.job.ingest", "j")
    assert {"ce-source", "ce-time", "content-type", "traceparent"} - set(headers) <= {"traceparent"}


async def test_a_full_queue_is_a_problem_and_leaves_no_entry_behind(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, job_limit=1) as harness:
        await board(harness).submit(SPEC, job="first", tenant="t")
        with pytest.raises(Problem) as caught:
            await board(harness).submit(SPEC, job="second", tenant="t")
        assert caught.value.kind is ProblemType.QUEUE_FULL
        assert [job.id for job in await board(harness).list("t")] == ["first"]
        await harness.jetstream.purge_stream("JOBS")
        _, created = await board(harness).submit(SPEC, job="second", tenant="t")
        assert created


async def test_submitting_a_job_again_into_a_full_queue_returns_its_entry(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, job_limit=1) as harness:
        first, _ = await board(harness).submit(SPEC, job="waits", tenant="t")
        assert await board(harness).submit(SPEC, job="waits", tenant="t") == (first, False)


async def test_concurrent_changes_are_all_applied(harness: StageHarness) -> None:
    await board(harness).submit(SPEC, job="j", tenant="t")

    def one_more(job: Job) -> Job:
        progress = job.progress.model_copy(update={"indexed": job.progress.indexed + 1})
        return job.model_copy(update={"progress": progress})

    await asyncio.gather(*(board(harness).update("t", "j", one_more) for _ in range(40)))
    assert (await board(harness).get("t", "j")).progress.indexed == 40


@pytest.mark.parametrize("state", [state for state in JobState if state.ended])
async def test_an_ended_job_never_changes(harness: StageHarness, state: JobState) -> None:
    await board(harness).submit(SPEC, job="j", tenant="t")
    ended = await board(harness).update("t", "j", lambda job: job.model_copy(update={"state": state}))
    again = await board(harness).update("t", "j", lambda job: job.model_copy(update={"state": JobState.RUNNING}))
    assert again == ended == await board(harness).get("t", "j")


async def test_of_two_who_end_a_job_at_once_the_first_wins_and_both_see_it(harness: StageHarness) -> None:
    await board(harness).submit(SPEC, job="j", tenant="t")
    states = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED] * 5
    seen = await asyncio.gather(
        *(board(harness).update("t", "j", lambda job, s=s: job.model_copy(update={"state": s})) for s in states)
    )
    assert len({job.state for job in seen}) == 1
    audit = await harness.jetstream.stream_info("JOB_EVENTS", subjects_filter="event.job.j.*")
    assert len(audit.state.subjects or {}) == 2, "queued, and one end"


async def test_each_change_is_an_event_and_changes_of_state_stay_in_the_audit_log(harness: StageHarness) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        heard.put_nowait(message.subject)

    await harness.client.subscribe("event.job.j.*", cb=hear)
    await board(harness).submit(SPEC, job="j", tenant="t")
    await board(harness).update("t", "j", lambda job: job.model_copy(update={"state": JobState.RUNNING}))
    await board(harness).update("t", "j", lambda job: job.model_copy(update={"attempt": 7}))
    await board(harness).update("t", "j", lambda job: job.model_copy(update={"state": JobState.SUCCEEDED}))
    whats = [(await asyncio.wait_for(heard.get(), 10)).rpartition(".")[2] for _ in range(6)]
    # A change of state is told once more when its entry can be read.
    assert whats == ["queued", "running", "progress", "progress", "succeeded", "progress"]
    audit = await harness.jetstream.stream_info("JOB_EVENTS")
    assert audit.state.messages == 3


@pytest.mark.parametrize("job", ["missing", "not a key", "*", "a..b", ""])
async def test_a_job_that_is_not_there_is_a_problem(harness: StageHarness, job: str) -> None:
    for call in (board(harness).get("t", job), board(harness).update("t", job, lambda job: job)):
        with pytest.raises(Problem) as caught:
            await call
        assert caught.value.kind is ProblemType.NOT_FOUND


async def test_the_newest_jobs_come_first_and_states_can_be_chosen(harness: StageHarness) -> None:
    ids = [job_id("t", None) for _ in range(5)]
    for each in ids:
        await board(harness).submit(SPEC, job=each, tenant="t")
    await board(harness).update("t", ids[1], lambda job: job.model_copy(update={"state": JobState.RUNNING}))
    assert [job.id for job in await board(harness).list("t", limit=2)] == [ids[4], ids[3]]
    assert [job.id for job in await board(harness).list("t", state=JobState.RUNNING)] == [ids[1]]
