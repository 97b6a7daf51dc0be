"""Fixtures that every tier uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.broker import NatsServer


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[NatsServer]:
    """A real nats-server of the test's own."""
    with NatsServer(tmp_path / "nats") as server:
        yield server
