"""Has commits on disk before they are acknowledged, takes back what a power cut has left of others, and finds damage.

Lance writes a file under another name, renames it and goes on; when its bytes reach the disk is left to the kernel,
which takes half a minute. So after a power cut a version can have a manifest of zero bytes, or name files that are not
there.
`TableFiles.flush` syncs what a commit has written, and then writes down the version and the boot of the machine beside
the table. `TableFiles.recover` finds another boot there, and sets the versions aside that came later: nobody was told
that they exist.

Lance does not notice most damages of a file, and answers from it. So `flush` also writes down the checksum of each
file, and `recover` compares them.
"""

import fcntl
import logging
import os
import zlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

from prometheus_client import Counter

from services.retriever.stores.lance.checksums import Checksum, Checksums, checksum_of

__all__ = ["TableFiles", "boot_id", "local_root"]

log = logging.getLogger(__name__)

MAGIC: Final = b"LANC"
"""The last bytes of a manifest."""

VERSIONS: Final = "_versions"
HINT: Final = "latest_version_hint.json"
MANIFEST: Final = ".manifest"
SET_ASIDE: Final = ".damaged"
UNKNOWN_BOOT: Final = "-"
COUNTED_DOWN: Final = 20
"""Digits of a manifest's name that counts down from 2^64 - 1. Shorter ones are of an older layout and count up."""

UNUSED: Final = ("_versions/", "_transactions/")
"""Folders of files that no answer is made from. Of manifests, only the newest one that is whole is used."""

VERIFIED_BYTES: Final = 4 * 2**30
"""Bytes of a table whose contents are compared with their checksums before it is opened, those of newer files first. Of
others only the sizes are."""

VERSIONS_SET_ASIDE: Final = Counter(
    "sluice_index_versions_set_aside_total", "Versions of tables that a power cut has left in part."
)
DAMAGED_FILES: Final = Counter("sluice_index_damaged_files_total", "Files of the index that are not what was written.")


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

    def __init__(self, root: Path, boot: str, *, verified_bytes: int = VERIFIED_BYTES) -> None:
        self._root = root
        self._boot = boot
        self._verified_bytes = verified_bytes
        self._flushed: defaultdict[str, set[str]] = defaultdict(set)
        self._checksums: dict[str, Checksums] = {}

    def lock(self, name: str) -> BinaryIO:
        """Keep others from recovering, changing and dropping the table until this is closed; waits for who has it."""
        while True:
            opened = self._mark(name).open("ab")
            fcntl.flock(opened, fcntl.LOCK_EX)
            if self._is_mark(opened, name):
                return opened
            opened.close()  # who had it has removed the file

    def begin(self, name: str) -> None:
        """Before the first commit, write down that nothing of the table is acknowledged: a power cut may leave a whole
        manifest of files that are not there.
        """
        if not self._mark(name).stat().st_size and not _manifests(self._folder(name)):
            self._record(name, 0)

    def flush(self, name: str) -> None:
        """Have what the table consists of on disk. Calls for one table do not overlap.

        Costs what is new since the last call, and for the first one a look at each file.
        """
        folder = self._folder(name)
        if not folder.is_dir():
            # What was to be changed is dropped, so nothing is left to write down.
            self.forget(name)
            return
        # Another commit may follow while the files are synced, so its number is not taken.
        version = max(map(_number, _manifests(folder)), default=0)
        known = self._flushed[name]
        present: set[str] = set()
        files: set[str] = set()
        for parent, folders, names in os.walk(folder):
            paths = {f"{parent}/{file}" for file in names if not _is_temporary(file)}
            files |= paths
            new = {path for path in paths if path not in known or path.endswith(HINT)}
            for path in new:
                _sync(path)
            paths |= {f"{parent}/{folder}/" for folder in folders}
            if paths - known or new:
                _sync(parent)
            present |= paths
        if not known:
            _sync(str(self._root))
        self._note_checksums(name, files)
        self._flushed[name] = present
        self._record(name, version)

    def forget(self, name: str) -> None:
        """After the table was dropped. Hold the lock meanwhile."""
        self._flushed.pop(name, None)
        self._checksums.pop(name, None)
        self._mark(name).unlink(missing_ok=True)
        self._sums(name).remove()

    def recover(self, name: str) -> list[str]:
        """Set aside what a power cut has left of commits that nobody was told of, and versions whose manifest is
        damaged. Their manifests keep their bytes. Returns which other files are not what was written.
        """
        if not self._folder(name).is_dir():
            return []
        with self.lock(name):
            if not self._folder(name).is_dir():
                self.forget(name)
                return []
            known = self._sums(name).read()
            told, boot = self._recorded(name)
            for manifest in sorted(_manifests(self._folder(name)), key=_number, reverse=True):
                later = bool(boot) and boot != self._boot and _number(manifest) > told
                if not later and _is_whole(manifest, known.get(f"{VERSIONS}/{manifest.name}")):
                    break
                why = "the power failed before it was on disk" if later else "its manifest is damaged"
                log.error("a version of a table is set aside: %s", why, extra={"manifest": str(manifest)})
                VERSIONS_SET_ASIDE.inc()
                manifest.with_name(HINT).unlink(missing_ok=True)
                manifest.rename(manifest.with_name(manifest.name + SET_ASIDE))
                # The next commit has this number again.
                self._sums(name).forget(f"{VERSIONS}/{manifest.name}")
            if max(map(_number, _manifests(self._folder(name))), default=0) < told:
                log.error("the version of a table that was acknowledged last is gone", extra={"table": name})
            damaged = self._damaged(name, known)
        for path in damaged:
            log.error("a file of the index is damaged", extra={"file": str(self._folder(name) / path)})
        DAMAGED_FILES.inc(len(damaged))
        return damaged

    def _damaged(self, name: str, known: Mapping[str, Checksum]) -> list[str]:
        folder, budget, found = self._folder(name), self._verified_bytes, []
        for path, checksum in reversed(list(known.items())):
            if path.startswith(UNUSED):
                continue
            budget -= checksum.size
            try:
                size = (folder / path).stat().st_size
                if size != checksum.size or (budget >= 0 and checksum_of(folder / path) != checksum):
                    found.append(path)
            except FileNotFoundError:
                pass  # no version uses it any more; if one does, it cannot be read
            except OSError:
                found.append(path)
        return found

    def _note_checksums(self, name: str, files: set[str]) -> None:
        """Write down the checksums of files that have none yet, apart from those that change."""
        folder = self._folder(name)
        paths = {path.removeprefix(f"{folder}/"): path for path in files if not path.endswith(HINT)}
        known = self._sums(name).read()
        new = {}
        for path in sorted(paths.keys() - known.keys()):
            try:
                new[path] = checksum_of(paths[path])
            except FileNotFoundError:
                continue  # cleared away meanwhile
        self._sums(name).add(new, set(paths))

    def _record(self, name: str, version: int) -> None:
        """In one sector, which a disk writes as a whole. What an older release reads comes first."""
        mark = self._mark(name)
        is_new = not mark.stat().st_size
        with mark.open("r+b", buffering=0) as opened:
            text = f"{version:020} {self._boot or UNKNOWN_BOOT}"
            opened.write(f"{text} {zlib.crc32(text.encode()):08x}\n".encode())
            os.fsync(opened.fileno())
        if is_new:
            _sync(str(self._root))

    def _recorded(self, name: str) -> tuple[int, str]:
        """The version that was acknowledged last, and the boot in which that was; no boot where nobody can tell."""
        words = self._mark(name).read_bytes().split()
        if len(words) > 3 or (len(words) == 3 and b"%08x" % zlib.crc32(b" ".join(words[:2])) != words[2]):
            log.error("what was acknowledged of a table is damaged", extra={"file": str(self._mark(name))})
            return 0, ""
        version, boot = (*words, b"", b"")[:2]
        return int(version or 0), "" if boot == UNKNOWN_BOOT.encode() else boot.decode()

    def _folder(self, name: str) -> Path:
        return self._root / f"{name}.lance"

    def _is_mark(self, opened: BinaryIO, name: str) -> bool:
        try:
            return os.path.samestat(os.fstat(opened.fileno()), self._mark(name).stat())
        except FileNotFoundError:
            return False

    def _mark(self, name: str) -> Path:
        return self._root / f"{name}.acknowledged"

    def _sums(self, name: str) -> Checksums:
        if name not in self._checksums:
            self._checksums[name] = Checksums(self._root / f"{name}.checksums")
        return self._checksums[name]


def _manifests(table: Path) -> list[Path]:
    folder = table / VERSIONS
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / name for name in names if name.endswith(MANIFEST) and name.removesuffix(MANIFEST).isdecimal()]


def _is_whole(manifest: Path, checksum: Checksum | None) -> bool:
    """By its checksum, or by its last bytes where none was written down."""
    if checksum is not None:
        return checksum_of(manifest) == checksum
    return manifest.read_bytes().endswith(MAGIC)


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
