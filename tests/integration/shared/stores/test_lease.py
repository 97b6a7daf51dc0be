"""A lease: one process of several has it, and another takes over from one that is gone."""

import pytest

from shared.nats.subjects import CHECKPOINTS
from shared.stores.lease import Lease
from tests.harness.broker import NatsServer
from tests.harness.job_harness import open_job_harness

pytestmark = pytest.mark.anyio


async def test_one_has_it_until_it_renews_no_more(broker: NatsServer) -> None:
    now = 0.0
    async with open_job_harness(broker.url) as harness:
        jetstream = harness.bus.jetstream
        first, second, third = (Lease(jetstream, "one", seconds=60, clock=lambda: now) for _ in range(3))
        assert await first.renew()
        assert not await second.renew()
        now = 59.0
        assert await first.renew()
        now = 100.0
        assert not await second.renew()  # it has seen the renewal only now
        now = 159.0
        assert not await second.renew()
        now = 160.0
        assert await second.renew()
        assert not await first.renew()
        assert not await third.renew()
        now = 219.0
        assert await second.renew()


async def test_leases_of_other_names_are_apart_and_a_removed_one_is_free(broker: NatsServer) -> None:
    async with open_job_harness(broker.url) as harness:
        jetstream = harness.bus.jetstream
        first, second = Lease(jetstream, "two", seconds=60), Lease(jetstream, "two", seconds=60)
        assert await first.renew()
        assert await Lease(jetstream, "three", seconds=60).renew()
        await (await jetstream.key_value(CHECKPOINTS)).purge("two")
        assert await second.renew()
        assert not await first.renew()
