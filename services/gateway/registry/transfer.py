"""Models as tar archives: in, with every name and size checked before anything is written, and out with checksums.

An archive may have the folder `.sluice` with the record of the model and the checksums of its files. Both are written
on the way out; on the way in the checksums are compared where they are there.
"""

import errno
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread

from services.gateway.http.tar import Member, TarReader, check_sums, refused, tar_end, tar_header, tar_padding
from shared.contracts.models import Model
from shared.contracts.problems import Problem, ProblemType
from shared.stores.model_files import MAX_FILES, check_file_name

__all__ = ["as_tar", "dimensions_in", "extracted", "pieces_of", "write_member"]

OWN: Final = ".sluice"
RECORD: Final = f"{OWN}/model.json"
CHECKSUMS: Final = f"{OWN}/SHA256SUMS"

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
LONGEST_CHECKSUMS: Final = 64 * 1024
PIECE: Final = 2**20
MOST_DIMENSIONS: Final = 65_536


async def extracted(pieces: AsyncIterator[bytes], folder: Path) -> None:
    """Write the files of an archive into a folder. Raises Problem INVALID_REQUEST, at the first file that no model may
    hold, or whose bytes are not those of its checksum."""
    sums: dict[str, str] | None = None
    written: dict[str, str] = {}
    async for member in TarReader(pieces).members():
        if member.name == CHECKSUMS:
            sums = _sums(await _small(member))
        elif any(part.startswith(".") for part in member.name.split("/") if part not in ("", ".", "..")):
            continue  # hidden files are no part of a model
        else:
            name = check_file_name(member.name)
            if name in written:
                raise refused(f"'{name}' is in it twice.")
            if len(written) == MAX_FILES:
                raise refused(f"It has more than {MAX_FILES} files.")
            written[name] = await write_member(member, folder / name)
    if sums is not None:
        check_sums(sums, written)


async def as_tar(model: Model, folder: Path) -> AsyncIterator[bytes]:
    """The files of a model, its record and its checksums."""
    record = json.dumps(model.model_dump(mode="json"), indent=1).encode()
    own = {RECORD: record, CHECKSUMS: checksums(model).encode()}
    for name, data in own.items():
        yield tar_header(name, len(data)) + data + tar_padding(len(data))
    for file in model.files:
        yield tar_header(file.path, file.size)
        pieces = pieces_of(folder / file.path)
        while piece := await to_thread.run_sync(next, pieces, b""):
            yield piece
        yield tar_padding(file.size)
    yield tar_end()


def checksums(model: Model) -> str:
    """As `sha256sum --check` reads them."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in model.files)


def dimensions_in(folder: Path) -> int | None:
    """Those of an embedder's vectors, where its files say so."""
    for path, member in (("1_Pooling/config.json", "word_embedding_dimension"), ("config.json", "hidden_size")):
        try:
            found: Any = json.loads((folder / path).read_text("utf-8")).get(member)
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
        if type(found) is int and 0 < found <= MOST_DIMENSIONS:
            return found
    return None


async def write_member(member: Member, path: Path) -> str:
    """Write a file of an archive; a new one. Returns its SHA-256 in hexadecimal digits."""
    digest = hashlib.sha256()
    try:
        await to_thread.run_sync(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        async with await anyio.open_file(path, "xb") as file:
            async for piece in member.content:
                digest.update(piece)
                await file.write(piece)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise refused(f"'{member.name}' is both a file and a folder.") from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        detail = (
            f"The gateway's folder for temporary files ({tempfile.gettempdir()}) has no room for the model. Give it "
            "more, or another one with TMPDIR."
        )
        raise Problem(ProblemType.STORAGE_FULL, detail) from None
    return digest.hexdigest()


async def _small(member: Member) -> bytes:
    if member.size > LONGEST_CHECKSUMS:
        raise refused(f"'{member.name}' has more than {LONGEST_CHECKSUMS:,} bytes.")
    return b"".join([piece async for piece in member.content])


def _sums(data: bytes) -> dict[str, str]:
    lines = data.decode("utf-8", "replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file; they are read in the calling thread."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
