"""The files of collections in memory on a local disk: a start maps them instead of reading the tables again.

A segment's files never change, and a manifest names those of a collection with their sizes and checksums. It is written
last and replaced at once. So a crash leaves the manifest before it, and whatever does not fit its manifest is removed.
"""

import fcntl
import json
import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from services.retriever.serving.postings import Postings, TermSets
from services.retriever.serving.segment import Segment
from services.retriever.serving.snapshot import Origin, Snapshot
from services.retriever.serving.vectors import Vectors
from services.retriever.stores.lance.durability import boot_id

__all__ = ["SnapshotCache"]

log = logging.getLogger(__name__)

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
ROWS: Final = "rows.arrow"
ALIVE: Final = "alive.npy"
BLOCK: Final = 2**22
SLOTS: Final = 64


class SnapshotCache:
    """Below a folder; processes that share it take a part each. Its methods block: call them in a thread, one at a
    time for each collection.

    What is kept takes at most `most_bytes`; the collections that were saved longest ago go first.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._lock = _own_part(folder)
        self._most_bytes = most_bytes

    def load(self, name: str, origin: Origin) -> Snapshot | None:
        """What is kept of a collection, of an earlier version of its table; None where nothing whole is."""
        folder = self._folder / name
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            # After a power cut a table may be back at an earlier version, and have other rows in later ones.
            if not origin.table or [manifest[key] for key in ("format", "table", "boot")] != [
                FORMAT,
                origin.table,
                boot_id(),
            ]:
                self.forget(name)
                return None
            _check(folder, manifest["files"])
            alive = np.load(folder / manifest["alive"])
            segments = tuple(_load_segment(folder / segment) for segment in manifest["segments"])
            old = replace(origin, **{key: manifest[key] for key in ("version", "last_row", "doubled")})
            return Snapshot(old, segments, alive, manifest["mean_of"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            log.warning("the files of the collection %s are not used and removed: %s", name, error)
        self.forget(name)
        return None

    def save(self, name: str, snapshot: Snapshot) -> dict[int, Segment]:
        """Keep a snapshot. For segments that had no files the same ones, mapped from their new files, by `id`."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        mapped: dict[int, Segment] = {}
        for segment in snapshot.segments:
            if not segment.name:
                _save_segment(folder / (new := uuid.uuid4().hex), segment)
                mapped[id(segment)] = _load_segment(folder / new)
        names = [mapped.get(id(segment), segment).name for segment in snapshot.segments]
        alive = f"{uuid.uuid4().hex}-{ALIVE}"
        np.save(folder / alive, snapshot.alive)
        files = _checksums(folder, [alive, *names])
        manifest = {
            "format": FORMAT,
            "table": snapshot.origin.table,
            "boot": boot_id(),
            "version": snapshot.origin.version,
            "last_row": snapshot.origin.last_row,
            "doubled": snapshot.origin.doubled,
            "mean_of": snapshot.mean_of,
            "alive": alive,
            "segments": names,
            "files": files,
        }
        new_manifest = folder / f"{MANIFEST}.new"
        new_manifest.write_text(json.dumps(manifest))
        new_manifest.replace(folder / MANIFEST)
        _remove_others(folder, {MANIFEST, alive, *names})
        self._make_room(name)
        return mapped

    def forget(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def close(self) -> None:
        """Leave the part to others. May be repeated."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _make_room(self, name: str) -> None:
        sizes = {folder: _size(folder) for folder in self._folder.iterdir() if folder.is_dir()}
        oldest = sorted(sizes, key=lambda folder: (folder.name == name, folder.stat().st_mtime))
        while oldest and sum(sizes.values()) > self._most_bytes:
            shutil.rmtree(folder := oldest.pop(0), ignore_errors=True)
            del sizes[folder]


def _own_part(folder: Path) -> tuple[Path, int]:
    """A part of the folder that no other process has, and what holds its lock."""
    for number in range(SLOTS):
        part = folder / str(number)
        part.mkdir(parents=True, exist_ok=True)
        lock = os.open(part / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return part, lock
    raise OSError(f"more than {SLOTS} processes share the folder {folder}")


def _arrays(segment: Segment) -> dict[str, np.ndarray[Any, Any]]:
    vectors, postings, sets = segment.vectors, segment.postings, segment.term_sets
    return {
        **{f"vectors.{name}": getattr(vectors, name) for name in ("values", "scales", "mean", "codes")},
        **{f"postings.{name}": getattr(postings, name) for name in ("terms", "starts", "rows", "counts")},
        **{f"sets.{name}": getattr(sets, name) for name in ("lengths", "distinct", "sketches")},
        "keys": segment.keys,
    }


def _save_segment(folder: Path, segment: Segment) -> None:
    folder.mkdir()
    for name, array in _arrays(segment).items():
        np.save(folder / f"{name}.npy", array)
    with pa.OSFile(str(folder / ROWS), "wb") as sink, pa.ipc.new_file(sink, segment.rows.schema) as writer:
        writer.write_table(segment.rows)


def _load_segment(folder: Path) -> Segment:
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}

    def part(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    return Segment(
        rows=pa.ipc.open_file(pa.memory_map(str(folder / ROWS))).read_all(),
        vectors=Vectors(**part("vectors.")),
        postings=Postings(**part("postings.")),
        term_sets=TermSets(**part("sets.")),
        keys=arrays["keys"],
        name=folder.name,
    )


def _checksums(folder: Path, names: list[str]) -> dict[str, int]:
    paths = [path for name in names for path in _files(folder / name)]
    return {str(path.relative_to(folder)): _checksum(path) for path in paths}


def _check(folder: Path, files: Mapping[str, int]) -> None:
    """Raise ValueError where a file is not as it was written. Reading all of it also brings it into memory."""
    for name, expected in files.items():
        if _checksum(folder / name) != expected:
            raise ValueError(f"{name} is damaged")


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _files(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_others(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
