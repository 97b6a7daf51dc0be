"""The bench: a client with the topology made, on a broker of the test's own."""

from collections.abc import AsyncIterator

import pytest

from tests.harness.bench import StageHarness, open_bench
from tests.harness.broker import NatsServer


@pytest.fixture
async def bench(broker: NatsServer, anyio_backend: str) -> AsyncIterator[StageHarness]:
    async with open_bench(broker.url) as opened:
        yield opened
