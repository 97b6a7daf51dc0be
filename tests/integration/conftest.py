"""What tests of several folders need: stage workers, and a gateway that a module describes by two fixtures."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.harness.broker import NatsServer
from tests.harness.gateways import running_gateway
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import StageHarness, open_stage_harness

Records = Sequence[Mapping[str, object]]


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, object]:
    """The settings of the gateway, besides the broker's address. A module overrides this."""
    return {}


@pytest.fixture(scope="module")
def gateway_collections() -> Records:
    """The collections that the gateway has from the start. A module or a folder overrides this."""
    return ()


@pytest.fixture(scope="module")
def gateway(
    broker: NatsServer,
    gateway_settings: dict[str, object],
    gateway_collections: Records,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServiceProcess]:
    """A gateway process for all tests of a module."""
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(broker, folder, gateway_collections, **gateway_settings) as process:
        yield process


@pytest.fixture
def own_gateway(
    own_broker: NatsServer, gateway_settings: dict[str, object], gateway_collections: Records, tmp_path: Path
) -> Iterator[ServiceProcess]:
    """A gateway process of the test's own, which it may stop or kill, on a broker of its own."""
    with running_gateway(own_broker, tmp_path, gateway_collections, **gateway_settings) as process:
        yield process


@pytest.fixture
async def harness(own_broker: NatsServer, anyio_backend: str) -> AsyncIterator[StageHarness]:
    """A client with the topology made, on a broker of the test's own."""
    async with open_stage_harness(own_broker.url) as opened:
        yield opened
