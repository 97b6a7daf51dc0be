"""A version that is a canary: it follows the live one, gets its share step by step, and goes live or back."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.scheduler.canaries import canary
from shared.contracts.canaries import CanaryCounts, VersionCounts
from shared.contracts.collections import Collection, VersionCanary, VersionState
from shared.contracts.jobs import CanarySpec, JobState, ReindexSpec, SwitchSpec
from shared.contracts.releases import Release, ReleaseContent, ReleaseEvent, ReleaseStage, release_name
from shared.stores.canaries import CanaryStore
from shared.stores.releases import ReleaseStore
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

TEXTS = {"a": "The lamp is lit.", "b": "The log is written.", "c": "The keeper sleeps."}


@pytest.fixture
async def harness(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CollectionHarness]:
    monkeypatch.setattr(canary, "LOOK", 0.02)
    async with open_collection_harness(broker.url, tmp_path) as harness:
        await harness.collections.create("default", "docs")
        await harness.do(await harness.upload("docs", TEXTS))
        job = await harness.do(ReindexSpec(collection="docs", chunk_tokens=48, switch=False))
        assert job.state is JobState.SUCCEEDED, job.error
        yield harness


def spec(**members: object) -> CanarySpec:
    return CanarySpec.model_validate(
        {"collection": "docs", "version": "v2", "steps": [10, 50], "step_seconds": 0, "min_answers": 10, **members}
    )


async def share(harness: CollectionHarness) -> float | None:
    """The percentage that gateways go by now."""
    found = (await harness.collection()).canary
    return None if found is None or time.time() >= found.until else found.percent


async def count(harness: CollectionHarness, job: str, *, writer: str = "gateway-1", **versions: VersionCounts) -> None:
    """As a gateway that has counted this so far."""
    await CanaryStore(harness.job_harness.bus.jetstream).put("default", job, writer, CanaryCounts(versions=versions))


async def shown(harness: CollectionHarness, percent: float) -> None:
    async def there() -> bool:
        return await share(harness) == percent

    await until(there)


async def counted(harness: CollectionHarness, job: str, asked: int) -> None:
    """Wait until the job has seen that its version was asked so many questions in this step."""

    async def seen() -> bool:
        return f"asked {asked} of" in (await harness.job_harness.job_store.get("default", job)).progress.message

    await until(seen)


async def released(harness: CollectionHarness, version: str) -> str:
    """Make a release of a version, as the gateway does."""
    collection = await harness.collection()
    content = ReleaseContent.of(collection, collection.version(version))
    name, event = release_name(content.hash), ReleaseEvent(at=time.time(), stage=ReleaseStage.CANDIDATE)
    release = Release(
        name=name, tenant="default", hash=content.hash, content=content, created_at=time.time(), events=(event,)
    )
    await ReleaseStore(harness.job_harness.bus.jetstream).put(release)
    await harness.collections.update(collection, lambda now: now.changed(version, release=name))
    return name


def answered(count: int, **others: int) -> VersionCounts:
    return VersionCounts(answered=count, times=(count, *VersionCounts().times[1:]), **others)


async def test_a_version_that_does_no_worse_gets_its_share_step_by_step_and_goes_live(
    harness: CollectionHarness,
) -> None:
    job = await harness.submit(spec())
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 10)
        assert (await harness.collection()).version("v2").state is VersionState.FOLLOWING
        # A document that comes meanwhile is in both versions.
        await harness.job_harness.ended(await harness.submit(await harness.upload("docs", {"d": "A ship passes."})))
        await count(harness, job, v1=answered(90), v2=answered(10))
        await shown(harness, 50)
        await count(harness, job, v1=answered(95), v2=answered(10))
        await count(harness, job, writer="gateway-2", v1=answered(5), v2=answered(10))
        ended = await harness.job_harness.ended(job)
    assert ended.state is JobState.SUCCEEDED, ended.error
    assert ended.outputs["promoted"] is True
    assert (ended.outputs["answered"], ended.outputs["answered_live"], ended.outputs["previous"]) == (20, 100, "v1")
    collection = await harness.collection()
    assert (collection.live.name, collection.canary) == ("v2", None)
    assert await harness.names(collection.table) == ["a", "b", "c", "d"]


async def test_a_version_is_in_the_shadow_before_its_first_step(harness: CollectionHarness) -> None:
    job = await harness.submit(spec(shadow=80))

    async def shadowed() -> bool:
        found = (await harness.collection()).canary
        return found is not None and (found.percent, found.shadow) == (0, 80)

    async with harness.job_harness.working(harness.kinds):
        await until(shadowed)
        await count(harness, job, v1=answered(90), v2=VersionCounts(answered=10))
        await shown(harness, 10)
        found = (await harness.collection()).canary
        assert found is not None
        assert found.shadow == 0
        await count(harness, job, v1=answered(95), v2=VersionCounts(answered=20))
        await shown(harness, 50)
        await count(harness, job, v1=answered(99), v2=VersionCounts(answered=30))
        ended = await harness.job_harness.ended(job)
    assert ended.outputs["promoted"] is True, ended.outputs


async def test_what_failed_with_both_versions_in_the_shadow_does_not_count_against_one_in_the_steps(
    harness: CollectionHarness,
) -> None:
    job = await harness.submit(spec(shadow=100, steps=[10]))
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 0)
        await count(harness, job, v1=answered(80, failed=20), v2=VersionCounts(answered=80, failed=20))
        await shown(harness, 10)
        await count(harness, job, v1=answered(8080, failed=20), v2=VersionCounts(answered=89, failed=20))
        await counted(harness, job, 9)
        await count(harness, job, v1=answered(8080, failed=20), v2=VersionCounts(answered=90, failed=20))
        ended = await harness.job_harness.ended(job)
    assert ended.outputs["promoted"] is True, ended.outputs


async def test_a_version_that_fails_in_the_shadow_is_never_seen(harness: CollectionHarness) -> None:
    job = await harness.submit(spec(shadow=100, min_answers=1000))
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 0)
        await count(harness, job, v1=answered(90), v2=VersionCounts(failed=10))
        ended = await harness.job_harness.ended(job)
    assert (ended.outputs["promoted"], ended.outputs["percent"]) == (False, 0)
    assert "100.0% (10 of 10) of its questions failed" in str(ended.outputs["reason"])


async def test_a_version_that_does_worse_goes_back_and_the_job_says_why(harness: CollectionHarness) -> None:
    job = await harness.submit(spec(min_answers=1000))
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 10)
        await count(harness, job, v1=answered(90), v2=VersionCounts(failed=10))
        ended = await harness.job_harness.ended(job)
    assert ended.state is JobState.SUCCEEDED
    assert ended.outputs["promoted"] is False
    assert "100.0% (10 of 10) of its questions failed" in str(ended.outputs["reason"])
    assert "v1 stays" in ended.progress.message
    collection = await harness.collection()
    assert (collection.live.name, collection.canary) == ("v1", None)
    assert collection.version("v2").state is VersionState.READY


async def test_a_release_that_is_a_canary_has_its_way_noted(harness: CollectionHarness) -> None:
    name = await released(harness, "v2")
    async with harness.job_harness.working(harness.kinds):
        for promoted in (False, True):
            job = await harness.submit(spec(steps=[50]), by="ann")
            await shown(harness, 50)
            await count(harness, job, v1=answered(10), v2=VersionCounts(answered=10, failed=0 if promoted else 90))
            assert (await harness.job_harness.ended(job)).outputs["promoted"] is promoted
    release = await ReleaseStore(harness.job_harness.bus.jetstream).get("default", name)
    assert [event.stage.value for event in release.events] == ["candidate", "canary", "candidate", "canary", "live"]
    assert "worse by more than max_failed" in release.events[2].reason
    assert {event.by for event in release.events[1:]} == {"ann"}


async def test_a_version_with_too_few_questions_goes_back(harness: CollectionHarness) -> None:
    for shadow in (0, 50):
        ended = await harness.do(spec(step_timeout=0.3, shadow=shadow))
        assert ended.outputs["promoted"] is False
        assert "asked 0 questions" in str(ended.outputs["reason"])
        assert ("Copies that are late" in str(ended.outputs["reason"])) is (shadow > 0)


async def test_a_cancelled_canary_leaves_the_live_version_alone(harness: CollectionHarness) -> None:
    job = await harness.submit(spec())
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 10)
        await harness.job_harness.job_store.cancel("default", job, by="ann", reason="")
        assert (await harness.job_harness.ended(job)).state is JobState.CANCELLED
    collection = await harness.collection()
    assert (collection.canary, collection.version("v2").state) == (None, VersionState.READY)


async def test_a_canary_goes_on_with_another_scheduler_where_it_was(harness: CollectionHarness) -> None:
    job = await harness.submit(spec())
    async with harness.job_harness.working(harness.kinds, long=frozenset({"canary"})):
        await shown(harness, 10)
        await count(harness, job, v1=answered(90), v2=answered(10))
        await shown(harness, 50)
    assert await share(harness) == 50, "the share stays while the job changes its worker"
    async with harness.job_harness.working(harness.kinds):
        await count(harness, job, v1=answered(100), v2=answered(20))
        ended = await harness.job_harness.ended(job)
    assert (ended.outputs["promoted"], ended.outputs["answered"]) == (True, 20)


async def test_a_switch_by_somebody_else_ends_the_canary(harness: CollectionHarness) -> None:
    await harness.do(ReindexSpec(collection="docs", version="v3", chunk_tokens=64, switch=False))
    job = await harness.submit(spec())
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 10)
        await harness.job_harness.ended(await harness.submit(SwitchSpec(collection="docs", version="v3")))
        ended = await harness.job_harness.ended(job)
    assert ended.outputs["promoted"] is False
    assert "Another job has changed" in str(ended.outputs["reason"])
    collection = await harness.collection()
    assert (collection.live.name, collection.canary) == ("v3", None)


async def test_of_two_canaries_of_a_collection_the_second_is_refused(harness: CollectionHarness) -> None:
    await harness.do(ReindexSpec(collection="docs", version="v3", chunk_tokens=64, switch=False))
    job = await harness.submit(spec())
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 10)
        second = await harness.job_harness.ended(await harness.submit(spec(version="v3")))
        assert second.error is not None
        assert f"is a canary of the job {job}" in second.error.detail
        assert await share(harness) == 10
        await harness.job_harness.job_store.cancel("default", job, by="ann", reason="")
        await harness.job_harness.ended(job)


async def test_what_a_dead_canary_left_does_not_hold_up_the_next(harness: CollectionHarness) -> None:
    def left(now: Collection) -> Collection:
        old = VersionCanary(version="v2", percent=30, job="gone", until=time.time() - 1)
        return now.changed("v2", state=VersionState.FOLLOWING, period="old").model_copy(update={"canary": old})

    await harness.collections.update(await harness.collection(), left)
    job = await harness.submit(spec())
    async with harness.job_harness.working(harness.kinds):
        await shown(harness, 10)
        await count(harness, job, v1=answered(10), v2=answered(10))
        await shown(harness, 50)
        await count(harness, job, v1=answered(20), v2=answered(20))
        ended = await harness.job_harness.ended(job)
    assert ended.outputs["promoted"] is True


async def test_the_live_version_cannot_be_a_canary(harness: CollectionHarness) -> None:
    job = await harness.do(spec(version="v1"))
    assert job.error is not None
    assert "is the live one already" in job.error.detail
