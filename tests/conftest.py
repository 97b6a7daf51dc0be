"""Fixtures that every tier uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.harness.broker import NatsServer
from tests.harness.tiny_model import make_adapter, make_model

# The same examples each time, however slow the machine is.
settings.register_profile("sluice", derandomize=True, deadline=None)
settings.load_profile("sluice")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The environment as it was: an engine in this process leaves in it what its own processes are to read."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real nats-server that the tests of a module share."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[NatsServer]:
    """A real nats-server of the test's own, which it may kill."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of random weights, in its folder."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_model: Path) -> Path:
    """A LoRA adapter for it."""
    return make_adapter(tiny_model.parent / "adapter", tiny_model)
