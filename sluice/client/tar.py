"""Files as a tar archive, made as it is sent, and an OCI image layout as a folder."""

import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

__all__ = ["PackedFile", "file_at", "pack", "packed", "paths_below", "read_pieces", "unpack_layout"]

BLOCK: Final = 512
PIECE: Final = 2**20

LAYOUT_FILE: Final = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """A file to pack. `read` gives its bytes piece by piece; a link has none, and is packed as a link."""

    name: str
    size: int
    read: Callable[[], Iterator[bytes]]
    is_link: bool = False

    @classmethod
    def of(cls, name: str, data: bytes) -> Self:
        return cls(name=name, size=len(data), read=lambda: iter((data,)))


def packed(folder: Path) -> Iterator[bytes]:
    """The files below a folder but for hidden ones, in the order of their names. Links are sent as links."""
    return pack(file_at(path, path.relative_to(folder).as_posix()) for path in paths_below(folder))


def paths_below(folder: Path) -> Iterator[Path]:
    """The files and links below a folder but for hidden ones, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (path.is_file() or path.is_symlink()):
            yield path


def file_at(path: Path, name: str) -> PackedFile:
    """The file at a path, under this name."""
    if path.is_symlink():
        return PackedFile(name=name, size=0, read=lambda: iter(()), is_link=True)
    return PackedFile(name=name, size=path.stat().st_size, read=lambda: read_pieces(path))


def read_pieces(path: Path) -> Iterator[bytes]:
    """A file piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def pack(files: Iterable[PackedFile]) -> Iterator[bytes]:
    """The files as a tar archive, in their order."""
    for file in files:
        yield from _member(file)
    yield bytes(2 * BLOCK)


def unpack_layout(archive: Path, folder: Path) -> None:
    """Write the files of an OCI image layout into a folder. Raises `ValueError` for an archive of anything else."""
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or not LAYOUT_FILE.fullmatch(member.name):
                    raise ValueError(f"{member.name[:80]!r} is no part of an OCI image layout")
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file, PIECE)
    except tarfile.TarError as error:
        raise ValueError(f"the archive is damaged: {error}") from None


def _member(file: PackedFile) -> Iterator[bytes]:
    info = tarfile.TarInfo(file.name)
    if file.is_link:
        info.type, info.linkname = tarfile.SYMTYPE, "."
        yield info.tobuf(tarfile.PAX_FORMAT)
        return
    info.size = left = file.size
    yield info.tobuf(tarfile.PAX_FORMAT)
    for piece in file.read():
        taken = piece[:left]
        if taken:
            yield taken
        left -= len(taken)
        if not left:
            break
    # Of a file that became shorter meanwhile, the rest is missing: the checksums say so.
    while left > PIECE:
        yield bytes(PIECE)
        left -= PIECE
    if padding := left + -info.size % BLOCK:
        yield bytes(padding)
