"""A checkpoint as one file: a tar archive of a folder.

What is inside is loaded without running code of its own: weights as safetensors, text, and PyTorch's state of optimizer
and random numbers, which it reads with `weights_only`.
"""

import re
import tarfile
from pathlib import Path
from typing import Final

from shared.contracts.problems import Problem, ProblemType

__all__ = ["BrokenCheckpointError", "pack", "unpack"]

PATH: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,4}")
MOST_FILES: Final = 1000
LEFT_OUT: Final = ("training_args.bin", "README.md")
"""The library's own arguments are a pickle, and nobody reads them."""


class BrokenCheckpointError(Exception):
    """What was stored is not a checkpoint."""


def pack(folder: Path, archive: Path, *, most_bytes: int) -> None:
    """Write the files of a folder into an archive. Raises Problem TRAINING_FAILED where they are too large."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in LEFT_OUT)
    size = sum(path.stat().st_size for path in paths)
    if size > most_bytes:
        raise Problem(
            ProblemType.TRAINING_FAILED,
            f"A checkpoint has {size / 2**20:,.0f} MB, and {most_bytes / 2**20:,.0f} MB are allowed. Raise "
            "SLUICE_TRAINING_CHECKPOINT_MB, or train a smaller model.",
        )
    with tarfile.open(archive, "w") as tar:
        for path in paths:
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)


def unpack(archive: Path, folder: Path, *, most_bytes: int) -> None:
    """Write the files of an archive into a new folder. Raises BrokenCheckpointError."""
    folder.mkdir(parents=True)
    left = most_bytes
    try:
        with tarfile.open(archive, "r:") as tar:
            for number, member in enumerate(tar):
                left -= member.size
                if not member.isreg() or not PATH.fullmatch(member.name) or left < 0 or number >= MOST_FILES:
                    raise BrokenCheckpointError(f"'{member.name[:80]}' cannot be part of a checkpoint")
                _write(tar, member, folder / member.name)
    except tarfile.TarError as error:
        raise BrokenCheckpointError(str(error)) from error


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None
    with content, path.open("wb") as file:
        while block := content.read(2**20):
            file.write(block)
