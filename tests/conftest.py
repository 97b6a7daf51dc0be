"""Fixtures that every tier uses."""

import gc
import os
from collections.abc import Callable, Coroutine, Generator, Iterator
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from hypothesis import settings

from tests.harness.broker import NatsServer
from tests.harness.tiny_model import make_adapter, make_model

TESTS: Final = Path(__file__).parent

SHARE_OF_TIMEOUT: Final = 0.7
"""The share of its timeout after which an asynchronous test is cancelled. pytest-timeout interrupts the event loop and
leaves the test in it, for which the end of its fixtures would then wait."""

Test = Callable[..., Coroutine[Any, Any, None]]

# The same examples each time, however slow the machine is.
settings.register_profile("sluice", derandomize=True, deadline=None)
settings.load_profile("sluice")


TIERS: Final = ("e2e", "operations", "console", "chaos", "cluster", "integration", "fuzz", "contract", "unit")
"""By the time that one file of them may take, longest first: so no worker is left with a long one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_tier)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Whatever is there when the tests begin stays until they end. So garbage is looked for among what they make, and
    not each time among a million objects, most of them tests, which takes longer than the unit tests themselves."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests of services wait for most of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    if iscoroutinefunction(pyfuncitem.obj):
        marker = pyfuncitem.get_closest_marker("timeout")
        seconds = float(marker.args[0] if marker is not None else pyfuncitem.config.getini("timeout"))
        pyfuncitem.obj = _bounded(pyfuncitem.obj, SHARE_OF_TIMEOUT * seconds)
    return (yield)


def _bounded(test: Test, seconds: float) -> Test:
    @wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        with anyio.fail_after(seconds):
            await test(*args, **kwargs)

    return bounded


def _tier(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    return TIERS.index(folder) if folder in TIERS else len(TIERS)


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
