"""Routes on the broker: written by one at a time, and followed through whatever happens to it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.routes import Route
from shared.nats.subjects import ROUTES
from shared.nats.watch import DEFAULTS, WatchOptions
from shared.stores.routes import Routes, watch_routes
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness, until

pytestmark = pytest.mark.anyio


def route(canary: float, stage: str = "generate") -> Route:
    return Route(stage=stage, weights={"default": 100 - canary, "canary": canary})


class Seen:
    """What a follower has been told last, and how often it was told anything."""

    def __init__(self) -> None:
        self.routes: Mapping[str, Route] = {}
        self.times = 0

    def __call__(self, routes: Mapping[str, Route]) -> None:
        self.routes = routes
        self.times += 1

    async def shows(self, **canaries: float) -> None:
        """Wait until these stages, and no others, have routes with these canaries."""

        async def is_so() -> bool:
            return {stage: each.weights["canary"] for stage, each in self.routes.items()} == canaries

        await until(is_so, f"{canaries}, not {self.routes}")


@asynccontextmanager
async def watched(harness: StageHarness, options: WatchOptions = DEFAULTS) -> AsyncIterator[Seen]:
    seen = Seen()
    async with watch_routes(harness.client, harness.jetstream, seen, options):
        yield seen


async def test_a_route_is_kept_as_it_was_written(harness: StageHarness) -> None:
    routes = Routes(harness.jetstream)
    written = Route(
        stage="generate", weights={"default": 1.5}, shadows={"next": 5}, updated_at=12.5, updated_by="Maria"
    )
    assert await routes.get("generate") is None
    revision = await routes.put(written)
    stored = await routes.get("generate")
    assert stored is not None
    assert (stored.route, stored.revision) == (written, revision)
    await routes.put(route(1, "embed"))
    assert [each.route.stage for each in await routes.list()] == ["embed", "generate"]
    await routes.delete("generate")
    assert [each.route.stage for each in await routes.list()] == ["embed"]


async def test_of_two_who_change_what_they_have_seen_the_second_is_told(harness: StageHarness) -> None:
    routes = Routes(harness.jetstream)
    first = await routes.put(route(10), revision=0)
    second = await routes.put(route(20), revision=first)
    for stale in (0, first):
        with pytest.raises(Problem) as caught:
            await routes.put(route(30), revision=stale)
        assert caught.value.kind is ProblemType.PRECONDITION_FAILED
    with pytest.raises(Problem) as caught:
        await routes.delete("generate", revision=first)
    assert caught.value.kind is ProblemType.PRECONDITION_FAILED
    await routes.delete("generate", revision=second)
    await routes.put(route(40), revision=0)


async def test_of_many_who_write_at_once_exactly_one_wins(harness: StageHarness) -> None:
    routes = Routes(harness.jetstream)
    seen = await routes.put(route(1))
    ends = await asyncio.gather(*(routes.put(route(n), revision=seen) for n in range(20)), return_exceptions=True)
    assert sum(isinstance(end, int) for end in ends) == 1
    assert sum(isinstance(end, Problem) for end in ends) == 19


async def test_a_follower_knows_all_routes_before_it_begins(harness: StageHarness) -> None:
    routes = Routes(harness.jetstream)
    await routes.put(route(10))
    await routes.put(route(20, "embed"))
    async with watched(harness) as seen:
        assert {stage: each.weights["canary"] for stage, each in seen.routes.items()} == {"generate": 10, "embed": 20}
        assert seen.times == 1


async def test_a_follower_is_told_of_changes_and_removals(harness: StageHarness) -> None:
    routes = Routes(harness.jetstream)
    async with watched(harness) as seen:
        assert seen.routes == {}
        await routes.put(route(10))
        await seen.shows(generate=10)
        await routes.put(route(20))
        await routes.put(route(5, "embed"))
        await seen.shows(generate=20, embed=5)
        await routes.delete("generate")
        await seen.shows(embed=5)


async def test_a_follower_goes_on_after_the_broker_was_away_and_learns_what_it_missed(
    harness: StageHarness, own_broker: NatsServer
) -> None:
    await Routes(harness.jetstream).put(route(10))
    async with watched(harness) as seen:
        for canary in (20.0, 30.0):
            own_broker.kill()
            own_broker.start()
            await seen.shows(generate=canary - 10)
            async with open_stage_harness(own_broker.url) as other:
                await Routes(other.jetstream).put(route(canary))
            await seen.shows(generate=canary)


async def test_what_was_known_stays_in_force_while_the_broker_is_away(
    harness: StageHarness, own_broker: NatsServer
) -> None:
    await Routes(harness.jetstream).put(route(10))
    async with watched(harness) as seen:
        own_broker.kill()

        async def lost() -> bool:
            return not harness.client.is_connected

        await until(lost, "the loss of the connection")
        assert seen.routes == {"generate": route(10)}
        own_broker.start()


async def test_a_follower_lives_without_the_bucket_until_somebody_makes_it(harness: StageHarness) -> None:
    await harness.jetstream.delete_key_value(ROUTES)
    async with watched(harness) as seen:
        assert seen.routes == {}
        await harness.topology.ensure()
        await Routes(harness.jetstream).put(route(10))
        await seen.shows(generate=10)


async def test_a_bucket_that_was_lost_with_the_brokers_disk_is_followed_again(
    harness: StageHarness, own_broker: NatsServer, tmp_path: Path
) -> None:
    await Routes(harness.jetstream).put(route(10))
    async with watched(harness) as seen:
        own_broker.kill()
        shutil.rmtree(tmp_path / "nats" / "store")
        own_broker.start()
        async with open_stage_harness(own_broker.url) as other:
            await seen.shows()
            await Routes(other.jetstream).put(route(20))
            await seen.shows(generate=20)


async def test_a_route_that_cannot_be_read_leaves_the_one_before_in_force(harness: StageHarness) -> None:
    routes = Routes(harness.jetstream)
    bucket = await harness.jetstream.key_value(ROUTES)
    await bucket.put("embed", b"{")
    async with watched(harness) as seen:
        assert seen.routes == {}
        await routes.put(route(10))
        await seen.shows(generate=10)
        await bucket.put("generate", b'{"stage": "generate", "weights": {"default": -1}}')
        await routes.put(route(20, "embed"))
        await seen.shows(generate=10, embed=20)
        stored = await routes.get("generate")
        assert stored is not None
        await routes.put(route(30), revision=stored.revision)
        await seen.shows(generate=30, embed=20)


async def test_a_watch_that_is_begun_anew_misses_nothing_and_leaves_nothing_behind(harness: StageHarness) -> None:
    options = WatchOptions(refresh=0.02, poll=0.01)
    routes = Routes(harness.jetstream)
    await routes.put(route(1))
    async with watched(harness, options) as seen:
        for canary in range(2, 30):
            await routes.put(route(canary))
            await seen.shows(generate=canary)

    async def gone() -> bool:
        return not await harness.jetstream.consumers_info(f"KV_{ROUTES}")

    await until(gone, "the end of all reading positions")
