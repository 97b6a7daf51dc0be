"""The platform is started once for the tests of this tier; each test has a collection of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice import Client
from tests.harness.paths import EXAMPLES
from tests.harness.platform import Platform

EXAMPLE = EXAMPLES / "redact"


@pytest.fixture(scope="package")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which jobs of the platform may read."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    roots = f"{sources},{EXAMPLES / 'notebooks'}"
    with Platform(folder, pipelines=EXAMPLE / "pipelines.yaml", source_roots=roots) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture
def documents_folder(tmp_path: Path) -> Path:
    """A folder of documents of several formats, each with one fact of its own."""
    folder = tmp_path / "library"
    (folder / "lamps").mkdir(parents=True)
    (folder / "lamps" / "blue.md").write_text(
        "# The blue lamp\n\nThe blue lamp was built by Ottilie Brandt in 1911. It stands at the harbour of Sundsholm.\n"
    )
    (folder / "lamps" / "red.txt").write_text("The red lamp is lit with rape-seed oil, forty litres each winter.\n")
    (folder / "ferries.html").write_text(
        "<html><body><h1>Ferries</h1><p>The ferry Njord leaves for Rauma at a quarter past six.</p></body></html>"
    )
    (folder / "tides.csv").write_text("place,high water\nSundsholm,04:10\nRauma,05:35\n")
    (folder / "crew.json").write_text('{"captain": "Ilse Varga", "cook": "Tomas Lind", "boat": "Kestrel"}')
    return folder
