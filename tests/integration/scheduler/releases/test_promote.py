"""Releases that are promoted and rolled back: what answers, what is noted, and what a crash leaves."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from services.scheduler.collections.switch import SwitchJob
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.releases.promote import PromoteJob
from shared.contracts.collections import Collection
from shared.contracts.jobs import Job, JobState, PromoteSpec, ReindexSpec, SwitchSpec
from shared.contracts.releases import Release, ReleaseContent, ReleaseEvent, ReleaseStage, release_name
from shared.contracts.retrieval import RetrievalOptions
from shared.stores.releases import ReleaseStore
from tests.harness.broker import NatsServer
from tests.harness.collection_harness import CollectionHarness, open_collection_harness

pytestmark = pytest.mark.anyio

TEXTS = {"a": "The lamp is lit.", "b": "The log is written.", "c": "The keeper sleeps."}


class Releases:
    """A collection with the versions v1, which is live, and v2, and its releases."""

    def __init__(self, harness: CollectionHarness) -> None:
        self.harness = harness
        self.store = ReleaseStore(harness.job_harness.bus.jetstream)

    async def make(self, version: str, **content: object) -> str:
        """As the gateway makes a release."""
        collection = await self.harness.collection()
        found = ReleaseContent.of(collection, collection.version(version), **content)
        stage = ReleaseStage.LIVE if collection.live.name == version else ReleaseStage.CANDIDATE
        release = Release(
            name=release_name(found.hash),
            tenant="default",
            hash=found.hash,
            content=found,
            created_at=time.time(),
            events=(ReleaseEvent(at=time.time(), stage=stage),),
        )
        await self.store.put(release)
        await self.harness.collections.update(collection, lambda now: now.changed(version, release=release.name))
        return release.name

    async def do(self, release: str | None = None, **more: object) -> Job:
        spec = PromoteSpec.model_validate({"collection": "docs", "release": release, **more})
        return await self.harness.do(spec, by="ann")

    async def stage(self, name: str) -> str:
        return (await self.store.get("default", name)).stage(await self.harness.collection(), time.time()).value

    async def events(self, name: str) -> list[tuple[str, str, str]]:
        return [(e.stage.value, e.by, e.reason) for e in (await self.store.get("default", name)).events]

    async def live(self) -> tuple[str, str]:
        live = (await self.harness.collection()).live
        return live.name, live.release


@pytest.fixture
async def releases(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Releases]:
    async with open_collection_harness(broker.url, tmp_path) as harness:
        await harness.collections.create("default", "docs")
        await harness.do(await harness.upload("docs", TEXTS))
        job = await harness.do(ReindexSpec(collection="docs", chunk_tokens=48, switch=False))
        assert job.state is JobState.SUCCEEDED, job.error
        yield Releases(harness)


async def test_a_release_is_promoted_and_rolled_back_with_who_and_why(releases: Releases) -> None:
    first, second = await releases.make("v1"), await releases.make("v2")
    assert (await releases.stage(first), await releases.stage(second)) == ("live", "candidate")
    job = await releases.do(second, reason="better by 3 %")
    assert job.state is JobState.SUCCEEDED, job.error
    assert (job.outputs["release"], job.outputs["previous"], job.outputs["version"]) == (second, first, "v2")
    assert await releases.live() == ("v2", second)
    assert (await releases.stage(first), await releases.stage(second)) == ("archived", "live")
    assert (await releases.events(second))[-1] == ("live", "ann", "better by 3 %")

    job = await releases.do(reason="readers complain")
    assert job.state is JobState.SUCCEEDED, job.error
    assert await releases.live() == ("v1", first)
    assert (await releases.stage(first), await releases.stage(second)) == ("live", "archived")
    assert (await releases.events(second))[-1] == ("archived", "ann", "Rolled back: readers complain")
    assert (await releases.events(first))[-1][0] == "live"


async def test_settings_of_one_version_are_released_and_taken_back_without_another_index(releases: Releases) -> None:
    first = await releases.make("v1")
    options = RetrievalOptions(dense_weight=0.9)

    def tuned(now: Collection) -> Collection:
        return now.with_settings(retrieval=options, rerank_candidates=20, pipeline="rerank")

    changed = await releases.harness.collections.update(await releases.harness.collection(), tuned)
    assert changed.live.release == "", "what was changed is not what was released"
    assert await releases.stage(first) == "archived"
    second = await releases.make("v1")
    assert second != first
    assert (await releases.do(first)).state is JobState.SUCCEEDED
    now = await releases.harness.collection()
    assert (now.live.name, now.live.release, now.live.rerank_candidates) == ("v1", first, 0)
    assert (now.live.retrieval, now.pipeline) == (RetrievalOptions(), None)
    assert (await releases.do()).state is JobState.SUCCEEDED
    now = await releases.harness.collection()
    assert (now.live.release, now.live.retrieval, now.pipeline) == (second, options, "rerank")


async def test_without_releases_a_rollback_goes_to_the_version_before(releases: Releases) -> None:
    await releases.harness.do(SwitchSpec(collection="docs", version="v2"))
    job = await releases.do()
    assert job.state is JobState.SUCCEEDED, job.error
    assert await releases.live() == ("v1", "")
    assert (job.outputs["release"], job.outputs["version"], job.outputs["previous_version"]) == ("", "v1", "v2")


async def test_with_nothing_to_go_back_to_a_rollback_says_so(releases: Releases) -> None:
    await releases.make("v1")
    job = await releases.do()
    assert job.error is not None
    assert "no earlier release or version" in job.error.detail
    assert (await releases.live())[0] == "v1"


async def test_a_second_rollback_does_not_bring_back_what_the_first_has_taken_away(releases: Releases) -> None:
    first, second = await releases.make("v1"), await releases.make("v2")
    assert (await releases.do(second)).state is JobState.SUCCEEDED
    assert (await releases.do(reason="readers complain")).outputs["release"] == first
    job = await releases.do(reason="they still do")
    assert job.error is not None
    assert "no earlier release or version" in job.error.detail
    assert await releases.live() == ("v1", first)
    assert (await releases.do(second)).state is JobState.SUCCEEDED, "by its name it can be promoted again"


async def test_a_switch_notes_which_release_it_made_live(releases: Releases) -> None:
    first, second = await releases.make("v1"), await releases.make("v2")
    await releases.harness.do(SwitchSpec(collection="docs", version="v2"), by="bob")
    assert (await releases.events(second))[-1][:2] == ("live", "bob")
    assert (await releases.events(first))[-1][:2] == ("archived", "bob")
    assert (await releases.do()).outputs["release"] == first


async def test_a_job_that_is_done_again_after_a_crash_notes_nothing_twice(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await releases.make("v1"), await releases.make("v2")
    note, failures = PromoteJob._note, iter([True, False])

    async def break_off(self: PromoteJob, *args: object) -> None:
        await note(self, *args)  # type: ignore[arg-type]
        if next(failures, False):
            raise RuntimeError("the worker dies here")

    monkeypatch.setattr(PromoteJob, "_note", break_off)
    job = await releases.do(second)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2), job.error
    assert [stage for stage, _, _ in await releases.events(second)] == ["candidate", "live"]
    assert [stage for stage, _, _ in await releases.events(first)] == ["live", "archived"]
    assert job.outputs["previous"] == first


async def test_of_two_promotions_at_once_the_later_one_takes_the_place_of_the_earlier(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await releases.harness.do(ReindexSpec(collection="docs", chunk_tokens=64, switch=False))
    assert job.state is JobState.SUCCEEDED, job.error
    first, second, third = [await releases.make(version) for version in ("v1", "v2", "v3")]
    planned, go_on = anyio.Event(), anyio.Event()
    make_live = SwitchJob.make_live

    async def held(self: SwitchJob, context: JobContext, collection: Collection, name: str, **more: Any) -> object:
        if name == "v3":
            planned.set()
            await go_on.wait()
        return await make_live(self, context, collection, name, **more)

    monkeypatch.setattr(SwitchJob, "make_live", held)
    later: list[Job] = []

    async def promote_third() -> None:
        later.append(await releases.do(third))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(promote_third)
            await planned.wait()
            earlier = await releases.do(second)
            go_on.set()
    assert (earlier.state, later[0].state) == (JobState.SUCCEEDED, JobState.SUCCEEDED), later[0].error
    assert (earlier.outputs["previous"], earlier.outputs["previous_version"]) == (first, "v1")
    assert (later[0].outputs["previous"], later[0].outputs["previous_version"]) == (second, "v2")
    assert [stage for stage, _, _ in await releases.events(first)] == ["live", "archived"]
    assert [stage for stage, _, _ in await releases.events(second)] == ["candidate", "live", "archived"]
    assert await releases.live() == ("v3", third)


async def test_a_release_whose_index_is_gone_says_what_to_do_and_the_live_one_stays(releases: Releases) -> None:
    first, second = await releases.make("v1"), await releases.make("v2")
    assert (await releases.do(second, keep=0)).state is JobState.SUCCEEDED
    job = await releases.do(first)
    assert job.error is not None
    assert "has no index" in job.error.detail
    assert await releases.live() == ("v2", second)


async def test_a_release_of_another_collection_is_refused(releases: Releases) -> None:
    first = await releases.make("v1")
    await releases.harness.collections.create("default", "other")
    job = await releases.harness.do(PromoteSpec(collection="other", release=first))
    assert job.error is not None
    assert "one of the collection 'docs'" in job.error.detail


async def test_an_alias_means_one_release_and_goes_with_it(releases: Releases) -> None:
    first, second = await releases.make("v1"), await releases.make("v2")
    store = releases.store
    await store.set_alias(await store.get("default", first), "champion")
    assert (await store.find("default", "docs@champion")).name == first
    await store.set_alias(await store.get("default", second), "champion")
    assert (await store.find("default", "docs@champion")).name == second
    assert [one.name for one in await store.list("default")] == [second, first]
    await store.delete(await store.get("default", second))
    assert await store.aliases("default", "docs") == {}
