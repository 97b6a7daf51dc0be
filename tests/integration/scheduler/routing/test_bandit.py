"""The weights of a stage's variants follow readers' ratings."""

import json
import time
from collections.abc import AsyncIterator

import pytest

from services.scheduler.routing.bandit import BanditJob
from shared.contracts.jobs import BanditSpec, Job, JobState
from shared.contracts.routes import Route
from shared.nats.subjects import FEEDBACK
from shared.stores.feedback import ReadersFeedback
from shared.stores.routes import Routes
from tests.harness.broker import NatsServer
from tests.harness.job_harness import JobHarness, open_job_harness

pytestmark = pytest.mark.anyio


class Readers:
    """What readers said, as gateways write it, and jobs that read it."""

    def __init__(self, harness: JobHarness) -> None:
        self.harness = harness
        self.routes = Routes(harness.bus.jetstream)
        self._said = 0

    async def rate(self, variant: str, *, up: int = 0, down: int = 0, share: float = 0.5, **others: object) -> None:
        bucket = await self.harness.bus.jetstream.key_value(FEEDBACK)
        for rating, count in (("up", up), ("down", down)):
            for _ in range(count):
                self._said += 1
                kept = {
                    "timings": {"stages": [{"stage": "embed"}, {"stage": "generate", "variant": variant}]},
                    "shares": {"generate": share},
                    **others,
                }
                said = {"answer": f"{self._said}", "rating": rating, "changed_at": time.time(), "kept": kept}
                await bucket.put(f"acme.{self._said}.reader", json.dumps(said).encode())

    async def route(self, **weights: float) -> None:
        await self.routes.put(Route(stage="generate", weights=weights, shadows={"canary": 5.0}))

    async def do(self, job: str = "bandit-1", **members: object) -> Job:
        spec = BanditSpec.model_validate({"stage": "generate", "min_ratings": 10, **members})
        await self.harness.submit(spec, job)
        kind = BanditJob(self.routes, ReadersFeedback(self.harness.bus.jetstream))
        async with self.harness.working({"bandit": kind}):
            return await self.harness.ended(job)

    async def shares(self) -> dict[str, float]:
        stored = await self.routes.get("generate")
        assert stored is not None
        return {name: round(share, 3) for name, share in stored.route.shares.items()}


@pytest.fixture
async def readers(broker: NatsServer) -> AsyncIterator[Readers]:
    async with open_job_harness(broker.url) as harness:
        bucket = await harness.bus.jetstream.key_value(FEEDBACK)
        for key in await bucket.keys() if (await bucket.status()).values else []:
            await bucket.purge(key)
        yield Readers(harness)


async def test_the_variant_that_readers_like_gets_more_but_not_more_than_the_bounds_allow(readers: Readers) -> None:
    await readers.route(default=50, canary=50)
    await readers.rate("default", up=10, down=20)
    await readers.rate("canary", up=28, down=2)
    job = await readers.do()
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.outputs["changed"] is True
    assert job.outputs["best"] == "canary"
    assert job.outputs["ratings"] == 60
    assert await readers.shares() == {"default": 0.3, "canary": 0.7}
    stored = await readers.routes.get("generate")
    assert stored is not None
    assert (stored.route.shadows, stored.route.updated_by) == ({"canary": 5.0}, "job bandit-1")
    gain, low, high = (job.outputs[name] for name in ("gain", "gain_low", "gain_high"))
    assert isinstance(gain, float)
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert 0 < low < gain < high
    for number in range(2, 6):
        await readers.do(f"bandit-{number}")
    assert await readers.shares() == {"default": 0.05, "canary": 0.95}


async def test_with_few_ratings_nothing_changes(readers: Readers) -> None:
    await readers.route(default=50, canary=50)
    await readers.rate("default", up=30)
    await readers.rate("canary", down=9)
    job = await readers.do()
    assert job.outputs["changed"] is False
    assert "canary has 9 of 10" in job.progress.message
    assert await readers.shares() == {"default": 0.5, "canary": 0.5}


async def test_without_apply_it_says_what_it_would_do(readers: Readers) -> None:
    await readers.route(default=50, canary=50)
    await readers.rate("default", up=10, down=20)
    await readers.rate("canary", up=30)
    job = await readers.do(apply=False)
    assert job.outputs["changed"] is False
    assert "It would be default 50.0 % -> 30.0 %, canary 50.0 % -> 70.0 %" in job.progress.message
    assert await readers.shares() == {"default": 0.5, "canary": 0.5}
    report = json.loads(await readers.harness.artifacts.get("default", f"{job.id}/bandit.json"))
    assert report["variants"]["canary"] | {"best_probability": 1} == {
        "up": 30,
        "down": 0,
        "best_probability": 1,
        "share": 0.5,
        "new_share": 0.7,
    }


async def test_answers_whose_variant_was_not_drawn_by_weight_do_not_count(readers: Readers) -> None:
    await readers.route(default=50, canary=50)
    await readers.rate("default", up=12)
    await readers.rate("canary", up=12)
    await readers.rate("canary", down=50, share=0.0)
    await readers.rate("canary", down=50, stage="generate")
    await readers.rate("gone", up=50)
    job = await readers.do()
    assert job.outputs["ratings"] == 24


async def test_a_stage_without_a_choice_is_refused(readers: Readers) -> None:
    await readers.routes.delete("generate")
    job = await readers.do()
    assert job.error is not None
    assert "sluice routes set generate" in job.error.detail
