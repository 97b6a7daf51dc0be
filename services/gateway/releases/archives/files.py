"""The files of a release: which there may be, and how they come as a tar archive with checksums."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from anyio import to_thread

from services.gateway.http.tar import check_sums, refused, tar_end, tar_header, tar_padding
from services.gateway.registry.transfer import pieces_of
from shared.stores.model_files import check_file_name, check_path

__all__ = [
    "CHECKSUMS",
    "LARGEST",
    "MODELS",
    "MOST_FILES",
    "RELEASE",
    "SIGNATURE",
    "TEMPLATES",
    "ReleaseFile",
    "as_tar",
    "check_release_file",
    "verify_checksums",
    "with_checksums",
]

RELEASE: Final = "release.json"
CHECKSUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "release.dsse.json"
MODELS: Final = "models"
TEMPLATES: Final = "templates"

LARGEST: Final = 16 * 2**20
"""Bytes of each file that says something of the others."""

MOST_FILES: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """`sha256` is in hexadecimal digits; `content` is the file's bytes, or where they lie."""

    name: str
    size: int
    sha256: str
    content: bytes | Path

    @classmethod
    def of(cls, name: str, data: bytes) -> Self:
        return cls(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest(), content=data)


def check_release_file(name: str) -> str:
    """The name of a file that a release may have. Raises Problem INVALID_REQUEST."""
    first, _, rest = name.partition("/")
    if name in (RELEASE, SIGNATURE):
        return name
    if first == MODELS and "/" in rest:
        model, _, file = rest.partition("/")
        check_path(model)
        check_file_name(file)
        return name
    if first == TEMPLATES and rest:
        return check_path(name)
    raise refused(f"{name[:80]!r} is no part of a release.")


def with_checksums(files: Sequence[ReleaseFile]) -> list[ReleaseFile]:
    """The files behind a list of their checksums, which `sha256sum --check` reads."""
    sums = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    return [ReleaseFile.of(CHECKSUMS, sums.encode()), *files]


def verify_checksums(folder: Path, written: dict[str, str]) -> dict[str, str]:
    """The files of an archive but the checksums: their hashes by their names. Reads in the calling thread.

    Raises Problem INVALID_REQUEST where the hashes are not those of the checksums.
    """
    if missing := {RELEASE, CHECKSUMS} - written.keys():
        raise refused(f"It has no {', '.join(sorted(missing))}, so it is not the export of a release.")
    lines = (folder / CHECKSUMS).read_text("utf-8", "replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    own = {name: digest for name, digest in written.items() if name != CHECKSUMS}
    check_sums(sums, own)
    return own


async def as_tar(files: Iterable[ReleaseFile]) -> AsyncIterator[bytes]:
    """The files in their order. The same files are the same bytes."""
    for file in files:
        yield tar_header(file.name, file.size)
        if isinstance(file.content, bytes):
            yield file.content
        else:
            pieces = pieces_of(file.content)
            while piece := await to_thread.run_sync(next, pieces, b""):
                yield piece
        yield tar_padding(file.size)
    yield tar_end()
