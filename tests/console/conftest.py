"""The console in real Chromium, on a platform that wants keys."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from sluice import Client
from tests.harness.browser import PATIENCE_MS, PHONE, Visit, chromium, open_browser, visiting
from tests.harness.platform import Platform

ADMIN: Final = "sk-sluice-admin-of-the-console-tests"

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="package")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which jobs of the platform may read."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Iterator[Platform]:
    chromium()
    folder = tmp_path_factory.mktemp("platform")
    with Platform(folder, source_roots=sources, admin_key=ADMIN, commands="process") as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that keeps answers, and conversations on the server."""
    chromium()
    folder = tmp_path_factory.mktemp("keeping")
    with Platform(folder, admin_key=ADMIN, conversations="server", keep_answers=True) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def client(platform: Platform) -> Iterator[Client]:
    with Client(platform.url, api_key=ADMIN, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="module")
def browser(platform: Platform) -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, platform: Platform) -> Iterator[Visit]:
    """A window at a desk, signed in with the admin key."""
    yield from visiting(browser, platform.url, ADMIN)


@pytest.fixture
def phone(browser: Browser, platform: Platform) -> Iterator[Visit]:
    """A window of a phone, in dark mode, signed in with the admin key."""
    yield from visiting(browser, platform.url, ADMIN, PHONE, dark=True)


@pytest.fixture
def page(visit: Visit) -> Page:
    """The console's first page."""
    return visit.open()
