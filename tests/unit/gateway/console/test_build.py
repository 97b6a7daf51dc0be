"""The committed build of the web console belongs to the committed sources, and these to the gateway's API."""

import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from services.gateway.console.pages import STATIC
from tests.harness.console import OPENAPI, SOURCES, openapi_text

SINGLE: Final = (
    "index.html",
    "openapi.json",
    "package-lock.json",
    "package.json",
    "tsconfig.json",
    "vite.config.ts",
)
FOLDERS: Final = ("public", "scripts", "src")
LARGEST: Final = 400_000
"""Bytes of the whole build, compressed."""

BUILD: Final = "the console's build is of other sources: run `make console`"


def _digest(paths: Iterable[Path], folder: Path) -> str:
    """The same as console/scripts/stamp.mjs computes."""
    names = sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_types_are_made_of_the_api_as_it_is() -> None:
    assert OPENAPI.read_text() == openapi_text(), "the API has changed: run `make console`"
    first = (SOURCES / "src" / "api" / "schema.d.ts").read_text().partition("\n")[0]
    assert first.endswith(hashlib.sha256(OPENAPI.read_bytes()).hexdigest()), "run `make console`"


def test_the_build_is_of_these_sources() -> None:
    stamp = json.loads((STATIC / "build.json").read_text())
    sources = [SOURCES / name for name in SINGLE] + [path for name in FOLDERS for path in (SOURCES / name).rglob("*")]
    assert stamp["sources"] == _digest(sources, SOURCES), BUILD
    built = [path for path in STATIC.rglob("*") if path != STATIC / "build.json"]
    assert stamp["files"] == _digest(built, STATIC), BUILD


def test_the_build_is_small() -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < LARGEST
