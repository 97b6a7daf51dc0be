"""Where models are imported from: a folder, one of the Hugging Face hub's cache, a tar archive, or a bucket."""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from sluice.client.errors import ModelSourceError
from sluice.client.tar import PackedFile, file_at, pack, paths_below, read_pieces

__all__ = ["model_archive"]

CHECKSUMS: Final = ".sluice/SHA256SUMS"
"""Where an archive has the checksums that its receiver compares with its files."""

LINE: Final = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
BLOBS: Final = "blobs"
SNAPSHOTS: Final = "snapshots"


def model_archive(
    source: str | Path, *, exclude: Sequence[str] = (), checksums: str | Path | None = None
) -> Callable[[], Iterator[bytes]]:
    """The files of a model as a tar archive, which is made anew for each call.

    `exclude` are shell patterns of paths within the model. `checksums` is a file of `<SHA-256>  <path>` lines: exactly
    the files that are left have to be in it, with their hashes, or else the receiver refuses the archive.

    Raises ModelSourceError where there is no such source, and the archive does while it is made.
    """
    listed = None if checksums is None else _checksums(Path(checksums), exclude)
    if "://" in str(source):
        from sluice.client.buckets import open_bucket

        bucket = open_bucket(str(source))
        if bucket.is_archive:
            _need_files(exclude, listed)
            return bucket.archive
        files: Callable[[], Iterator[PackedFile]] = bucket.files
    else:
        path = Path(source)
        if not path.exists():
            raise ModelSourceError(f"There is no {path}.")
        if not path.is_dir():
            _need_files(exclude, listed)
            return partial(read_pieces, path)
        files = partial(_files_in, _snapshot(path))

    own = () if listed is None else (PackedFile.of(CHECKSUMS, listed),)

    def archive() -> Iterator[bytes]:
        return pack(chain(own, (file for file in files() if not _is_excluded(file.name, exclude))))

    return archive


def _need_files(exclude: Sequence[str], listed: bytes | None) -> None:
    if exclude or listed is not None:
        raise ModelSourceError("An archive is sent as it is: leave out files, or compare checksums, where you make it.")


def _is_excluded(name: str, exclude: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)


def _checksums(path: Path, exclude: Sequence[str]) -> bytes:
    """Of the files that are not left out."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ModelSourceError(f"The checksums in {path} cannot be read: {error}") from None
    kept = []
    for line in filter(None, lines):
        if (found := LINE.fullmatch(line)) is None:
            raise ModelSourceError(f"{path} has the line {line[:80]!r}; write it with: sha256sum FILE…")
        if not _is_excluded(found[2], exclude):
            kept.append(f"{found[1]}  {found[2]}\n")
    if not kept:
        raise ModelSourceError(f"{path} has no checksums of files that are sent.")
    return "".join(kept).encode()


def _snapshot(folder: Path) -> Path:
    """The folder itself, or the one snapshot of a model in the hub's cache."""
    snapshots = folder / SNAPSHOTS
    if not snapshots.is_dir() or not (folder / BLOBS).is_dir():
        return folder
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise ModelSourceError(f"{snapshots} has {len(found)} revisions ({names}). Name the folder of one of them.")
    return found[0]


def _files_in(folder: Path) -> Iterator[PackedFile]:
    for path in paths_below(folder):
        name = path.relative_to(folder).as_posix()
        blob = _blob(folder, path) if path.is_symlink() else None
        yield file_at(path if blob is None else blob, name)


def _blob(folder: Path, link: Path) -> Path | None:
    """The file that a link of the hub's cache leads to; None for a link to anywhere else, which is refused as a link.

    The cache calls a large file by its SHA-256, with which it is compared here.
    """
    blobs = folder.resolve().parent.parent / BLOBS
    target = link.resolve()
    if folder.resolve().parent.name != SNAPSHOTS or target.parent != blobs or not target.is_file():
        return None
    if SHA256.fullmatch(target.name):
        digest = hashlib.sha256()
        for piece in read_pieces(target):
            digest.update(piece)
        if digest.hexdigest() != target.name:
            raise ModelSourceError(f"{link} is damaged: its SHA-256 is not {target.name}. Download it again.")
    return target
