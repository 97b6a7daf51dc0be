"""Has commits on disk before they are acknowledged, and takes back what a power cut has left of others.

Lance writes a file under another name, renames it and goes on; when its bytes reach the disk is left to the kernel,
which takes half a minute. So after a power cut a version can have a manifest of zero bytes, or name files that are not
there.
`TableFiles.flush` syncs what a commit has written, and then writes down the version and the boot of the machine beside
the table. `TableFiles.recover` finds another boot there, and sets the versions aside that came later: nobody was told
that they exist.
"""

import fcntl
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import BinaryIO, Final

from prometheus_client import Counter

__all__ = ["TableFiles", "boot_id", "local_root"]

log = logging.getLogger(__name__)

MAGIC: Final = b"LANC"
"""The last bytes of a manifest."""

VERSIONS: Final = "_versions"
HINT: Final = "latest_version_hint.json"
MANIFEST: Final = ".manifest"
SET_ASIDE: Final = ".damaged"
COUNTED_DOWN: Final = 20
"""Digits of a manifest's name that counts down from 2^64 - 1. Shorter ones are of an older layout and count up."""

VERSIONS_SET_ASIDE: Final = Counter(
    "sluice_index_versions_set_aside_total", "Versions of tables that a power cut has left in part."
)


def local_root(uri: str) -> Path | None:
    """The folder that a store's URI names; None for an object store, which syncs by itself."""
    if "://" not in uri:
        return Path(uri)
    return Path(uri.removeprefix("file://")) if uri.startswith("file://") else None


def boot_id() -> str:
    """Another one after each start of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class TableFiles:
    """The files of the tables in a folder. Lance never writes to a file once it has its name, but for the hint."""

    def __init__(self, root: Path, boot: str) -> None:
        self._root = root
        self._boot = boot
        self._flushed: defaultdict[str, set[str]] = defaultdict(set)

    def lock(self, name: str) -> BinaryIO:
        """Keep others from recovering the table until this is closed; waits for who has it."""
        opened = self._mark(name).open("ab")
        fcntl.flock(opened, fcntl.LOCK_EX)
        return opened

    def flush(self, name: str) -> None:
        """Have what the table consists of on disk. Calls for one table do not overlap.

        Costs what is new since the last call, and for the first one a look at each file.
        """
        folder = self._folder(name)
        if not folder.is_dir():
            return
        # Another commit may follow while the files are synced, so its number is not taken.
        version = max(map(_number, _manifests(folder)), default=0)
        known = self._flushed[name]
        present: set[str] = set()
        for parent, folders, files in os.walk(folder):
            paths = {f"{parent}/{file}" for file in files if not _is_temporary(file)}
            new = {path for path in paths if path not in known or path.endswith(HINT)}
            for path in new:
                _sync(path)
            paths |= {f"{parent}/{name}/" for name in folders}
            if paths - known or new:
                _sync(parent)
            present |= paths
        if not known:
            _sync(str(self._root))
        self._flushed[name] = present
        self._record(name, version)

    def forget(self, name: str) -> None:
        """After the table was dropped."""
        self._flushed.pop(name, None)
        self._mark(name).unlink(missing_ok=True)

    def recover(self, name: str) -> None:
        """Set aside what a power cut has left of commits that nobody was told of. Their manifests keep their bytes."""
        if not self._folder(name).is_dir():
            return
        with self.lock(name):
            told, boot = self._recorded(name)
            for manifest in sorted(_manifests(self._folder(name)), key=_number, reverse=True):
                later = bool(boot) and boot != self._boot and _number(manifest) > told
                if not later and manifest.read_bytes().endswith(MAGIC):
                    return
                log.error("a version of a table is set aside: the power failed", extra={"manifest": str(manifest)})
                VERSIONS_SET_ASIDE.inc()
                manifest.with_name(HINT).unlink(missing_ok=True)
                manifest.rename(manifest.with_name(manifest.name + SET_ASIDE))

    def _record(self, name: str, version: int) -> None:
        """In one sector, which a disk writes as a whole."""
        mark = self._mark(name)
        is_new = not mark.stat().st_size
        with mark.open("r+b", buffering=0) as opened:
            opened.write(f"{version:020} {self._boot}\n".encode())
            os.fsync(opened.fileno())
        if is_new:
            _sync(str(self._root))

    def _recorded(self, name: str) -> tuple[int, str]:
        """The version that was acknowledged last, and the boot in which that was."""
        version, _, boot = self._mark(name).read_text().strip().partition(" ")
        return int(version or 0), boot

    def _folder(self, name: str) -> Path:
        return self._root / f"{name}.lance"

    def _mark(self, name: str) -> Path:
        return self._root / f"{name}.acknowledged"


def _manifests(table: Path) -> list[Path]:
    folder = table / VERSIONS
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / name for name in names if name.endswith(MANIFEST) and name.removesuffix(MANIFEST).isdecimal()]


def _number(manifest: Path) -> int:
    digits = manifest.name.removesuffix(MANIFEST)
    return 2**64 - 1 - int(digits) if len(digits) == COUNTED_DOWN else int(digits)


def _is_temporary(name: str) -> bool:
    return name.startswith(".tmp") or "#" in name


def _sync(path: str) -> None:
    """A file that has been cleared away meanwhile need not be on disk."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
