"""A kind of job is its spec and the module that does it."""

from typing import Literal, cast
from unittest.mock import MagicMock

import pytest

from services.scheduler.jobs import kinds
from services.scheduler.jobs.kinds import JobDependencies, Pool, load_kinds
from services.scheduler.settings import SchedulerSettings
from shared.contracts.jobs import KINDS, JobSpec


@pytest.fixture
def dependencies() -> JobDependencies:
    """Only the settings are read when the functions are made."""
    return cast("JobDependencies", MagicMock(settings=SchedulerSettings(_env_file=None)))


def test_each_spec_has_a_function_that_does_its_jobs(dependencies: JobDependencies) -> None:
    found = load_kinds(dependencies)

    assert found.keys() == KINDS.keys()
    assert found["delete"].pool is Pool.SHORT
    assert found["pipeline"].pool is Pool.FLOW
    assert found["sweep"].pool is Pool.SWEEP, "pipelines wait for sweeps"


def test_a_spec_without_a_function_is_named_at_start(
    dependencies: JobDependencies, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TranslateSpec(JobSpec):
        kind: Literal["translate"] = "translate"

    monkeypatch.setattr(kinds, "KINDS", {**KINDS, "translate": TranslateSpec})

    with pytest.raises(LookupError, match="translate"):
        load_kinds(dependencies)
