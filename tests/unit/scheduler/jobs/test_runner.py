"""What a delivery does to the record of its job."""

import pytest

from services.scheduler.jobs.runner import started_job
from shared.contracts.jobs import Job, JobState
from shared.contracts.problems import Problem, ProblemType

FAILED = Problem(ProblemType.STAGE_FAILED, "no").details


def record(state: JobState = JobState.QUEUED, attempt: int = 0, **members: object) -> Job:
    return Job.model_validate(
        {"id": "j", "kind": "ingest", "created_at": 1.0, "state": state, "attempt": attempt} | members
    )


def start(job: Job, attempt: int = 1, *, replayed: bool = False) -> Job | None:
    return started_job(job, attempt=attempt, replayed=replayed, sequence=7)


def test_the_first_try_of_a_queued_job_begins() -> None:
    started = start(record())
    assert started is not None
    assert (started.state, started.attempt, started.crashes, started.revision) == (JobState.RUNNING, 1, 0, 7)
    assert started.started_at is not None


def test_the_next_try_keeps_the_start_and_the_revision_and_forgets_the_error() -> None:
    started = start(record(attempt=1, started_at=2.0, revision=3, crashes=1, error=FAILED), attempt=2)
    assert started is not None
    assert (started.started_at, started.revision, started.crashes, started.error) == (2.0, 3, 1, None)


@pytest.mark.parametrize(("given_back", "crashes"), [(False, 1), (True, 0)])
def test_a_redelivered_try_counts_as_a_crash_unless_it_was_given_back(given_back: bool, crashes: int) -> None:
    started = start(record(JobState.RUNNING, attempt=1, given_back=given_back))
    assert started is not None
    assert (started.attempt, started.crashes, started.given_back) == (1, crashes, False)


@pytest.mark.parametrize(
    ("job", "attempt"),
    [
        (record(JobState.RUNNING, attempt=2), 1),  # a later try runs
        (record(attempt=2), 1),  # a later try waits
        (record(JobState.RUNNING, attempt=1), 2),  # the earlier one has not ended
        (record(JobState.SUCCEEDED, attempt=1), 2),
    ],
)
def test_a_try_that_was_replaced_or_comes_too_early_changes_nothing(job: Job, attempt: int) -> None:
    assert start(job, attempt) is None


def test_a_replayed_dead_letter_is_a_new_try_with_no_crashes() -> None:
    started = start(
        record(JobState.FAILED, attempt=3, crashes=4, finished_at=9.0, error=FAILED), attempt=1, replayed=True
    )
    assert started is not None
    assert (started.state, started.attempt, started.crashes) == (JobState.RUNNING, 4, 0)
    assert (started.finished_at, started.error) == (None, None)


def test_a_replayed_dead_letter_that_is_delivered_again_is_the_same_try() -> None:
    started = start(record(JobState.RUNNING, attempt=4), attempt=1, replayed=True)
    assert started is not None
    assert (started.attempt, started.crashes) == (4, 1)
