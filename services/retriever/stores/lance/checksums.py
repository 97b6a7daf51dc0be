"""Checksums of the files of one table, in a file beside it: Lance has none of its own for data and indices.

A file of a table never changes once it has its name. So a line per file is written when the file is synced, and holds
for as long as the file is there. A line has a checksum too: one that is damaged vouches for nothing.
"""

import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Checksum", "Checksums", "checksum_of"]

log = logging.getLogger(__name__)

PIECE: Final = 2**20
WASTE: Final = 1_000
"""Lines of files that are gone after which the rest is written anew, if they are as many as those that stay."""


@dataclass(frozen=True, slots=True)
class Checksum:
    size: int
    crc32: int


def checksum_of(path: Path | str) -> Checksum:
    """Raises OSError."""
    size = crc = 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE):
            size += len(piece)
            crc = zlib.crc32(piece, crc)
    return Checksum(size, crc)


class Checksums:
    """Those of one table, by the files' paths within it. One process at a time may `add`; others read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Checksum] = {}
        self._read_to = (0, 0)
        """The file's inode and how far it was read."""

    def read(self) -> Mapping[str, Checksum]:
        """What all processes have written so far."""
        try:
            opened = self._file.open("rb")
        except FileNotFoundError:
            self._known, self._read_to = {}, (0, 0)
            return self._known
        with opened:
            inode = os.fstat(opened.fileno()).st_ino
            if inode != self._read_to[0]:
                self._known, self._read_to = {}, (inode, 0)
            opened.seek(self._read_to[1])
            data = opened.read()
        whole = data.rpartition(b"\n")[0]
        self._known.update(_entries(whole, self._file))
        self._read_to = (inode, self._read_to[1] + len(data))
        return self._known

    def add(self, new: Mapping[str, Checksum], present: set[str]) -> None:
        """Write down new files. `present` are all files that are there. What a power cut takes is written again."""
        known = self.read()
        gone = known.keys() - present - new.keys()
        if len(gone) > max(WASTE, len(present)):
            self._rewrite({path: each for path, each in {**known, **new}.items() if path in present})
        elif new:
            with self._file.open("ab") as file:
                # What a power cut has left of a line stays a line of its own.
                file.write((b"\n" if file.tell() else b"") + _lines(new))
            self.read()

    def forget(self, path: str) -> None:
        """A file of this name may be written again."""
        known = self.read()
        if path in known:
            self._rewrite({each: checksum for each, checksum in known.items() if each != path})

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)

    def _rewrite(self, entries: Mapping[str, Checksum]) -> None:
        draft = self._file.with_name(f"{self._file.name}.new")
        with draft.open("wb") as file:
            file.write(_lines(entries))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file)
        self.read()


def _lines(entries: Mapping[str, Checksum]) -> bytes:
    return b"".join(_line(path, each) for path, each in entries.items())


def _line(path: str, checksum: Checksum) -> bytes:
    text = f"{checksum.crc32:08x} {checksum.size} {path}".encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entries(data: bytes, file: Path) -> Iterator[tuple[str, Checksum]]:
    for line in filter(None, data.split(b"\n")):
        crc, _, text = line.partition(b" ")
        if crc != b"%08x" % zlib.crc32(text):
            log.error("a checksum of a file of the index is damaged itself", extra={"file": str(file)})
            continue
        value, size, path = text.decode().split(" ", 2)
        yield path, Checksum(int(size), int(value, 16))
