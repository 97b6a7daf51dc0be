"""Plays the fuzz tests as deep as is asked for, and gives them the real parts that they need."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.fuzz.hypothesis_runner import play


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A Hypothesis test is played; what else there is runs as ever."""
    if not hasattr(pyfuncitem.obj, "hypothesis"):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    play(pyfuncitem.name, pyfuncitem.obj, {name: pyfuncitem.funcargs[name] for name in names})
    return True


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread, for what the real parts do."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all tests of a module."""
    return tmp_path_factory.mktemp("fuzz")
