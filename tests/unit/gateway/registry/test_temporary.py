"""Folders of models on their way go with their process, also with one that is killed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from services.gateway.registry.temporary import temporary_folder

pytestmark = pytest.mark.anyio

HOLDER = """
import anyio
from services.gateway.registry.temporary import temporary_folder

async def main():
    async with temporary_folder() as folder:
        (folder / "weights").write_bytes(b"x")
        print(folder, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a folder."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_a_folder_is_gone_after_its_block(place: Path) -> None:
    async with temporary_folder() as folder:
        (folder / "deep").mkdir()
        assert folder.parent == place
        assert folder.stat().st_mode & 0o077 == 0
    assert names(place) == []


async def test_folders_at_once_leave_each_other_alone(place: Path) -> None:
    async def use() -> None:
        for _ in range(5):
            async with temporary_folder() as folder:
                (folder / "weights").write_bytes(b"x")
                await anyio.lowlevel.checkpoint()
                assert (folder / "weights").exists()

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(use)
    assert names(place) == []


async def test_what_a_killed_process_has_left_the_next_folder_removes(
    place: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    async with temporary_folder():
        assert names(left) == ["weights"], "its process runs"
    holder.kill()
    holder.wait()
    assert names(left) == ["weights"]
    async with temporary_folder():
        assert left.name not in names(place)
    assert names(place) == []


@pytest.fixture
def precious(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of somebody else's, to which a link leads that looks like a lock, and a folder without a lock."""
    file = tmp_path_factory.mktemp("other") / "precious"
    file.write_text("stays")
    (place / "sluice-model-x.lock").symlink_to(file)
    (place / "sluice-model-y").mkdir()
    return file


async def test_links_and_folders_of_others_are_left_alone(place: Path, precious: Path) -> None:
    async with temporary_folder():
        assert "sluice-model-y" in names(place)
    assert names(place) == ["sluice-model-x.lock", "sluice-model-y"]
    assert names(precious.parent) == ["precious"]
