"""The backups of one place: which are whole, which is the newest, and which go."""

import hashlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from services.retriever.backup.errors import BackupError
from services.retriever.backup.manifest import MANIFEST, BackupFile, Manifest
from services.retriever.backup.places import BackupPlace

__all__ = ["Catalog", "backup_name"]

NAME: Final = re.compile(r"\d{8}T\d{6}Z")
TIME: Final = "%Y%m%dT%H%M%SZ"

ABANDONED: Final = timedelta(days=1)
"""How old an interrupted backup is when it is removed: a younger one may still be written."""


def backup_name(at: datetime) -> str:
    """The name of a backup that begins then; names sort by time."""
    return at.astimezone(UTC).strftime(TIME)


class Catalog:
    """Each backup is a folder of its place, named by the time at which it began."""

    def __init__(self, place: BackupPlace) -> None:
        self.place = place

    async def whole(self) -> list[str]:
        """The names of the backups that are whole, newest first."""
        files = await self.place.paths()
        found = {name for name, _, rest in (path.partition("/") for path in files) if rest == MANIFEST}
        return sorted(filter(NAME.fullmatch, found), reverse=True)

    async def interrupted(self) -> list[str]:
        """The names of those that have no manifest, newest first."""
        names = {path.partition("/")[0] for path in await self.place.paths() if "/" in path}
        return sorted(set(filter(NAME.fullmatch, names)) - set(await self.whole()), reverse=True)

    async def open(self, name: str | None = None) -> Manifest:
        """The manifest of a backup, of the newest that is whole without a name. Raises BackupError."""
        whole = await self.whole()
        if name is None:
            if not whole:
                raise BackupError(f"there is no whole backup in {self.place.url}{await self._hint()}")
            name = whole[0]
        if name not in whole:
            known = ", ".join(whole) or "none"
            raise BackupError(f"there is no whole backup '{name}' in {self.place.url}; whole are: {known}")
        path = f"{name}/{MANIFEST}"
        data = b"".join([piece async for piece in self.place.read(path)])
        return Manifest.decode(data, f"{self.place.url}/{path}")

    async def write(self, name: str, file: str, pieces: AsyncIterable[bytes]) -> BackupFile:
        """Write a file of a backup. Its path in the answer begins below the backup's folder."""
        written = await self.place.write(f"{name}/{file}", pieces)
        return written.model_copy(update={"path": file})

    async def read(self, name: str, file: BackupFile) -> AsyncIterator[bytes]:
        """The bytes of a file, which are checked on the way. Raises BackupError at the end where they are others."""
        place, size, digest = f"{self.place.url}/{name}/{file.path}", 0, hashlib.sha256()
        try:
            async for piece in self.place.read(f"{name}/{file.path}"):
                digest.update(piece)
                size += len(piece)
                yield piece
        except FileNotFoundError:
            raise BackupError(f"the backup is damaged: {place} is missing") from None
        if size != file.size:
            raise BackupError(f"the backup is damaged: {place} has {size:,} bytes instead of {file.size:,}")
        if digest.hexdigest() != file.sha256:
            raise BackupError(f"the backup is damaged: {place} has another checksum")

    async def verify(self, manifest: Manifest, said: Callable[[str], None]) -> None:
        """Read every file of a backup. Raises BackupError for the first that is damaged or missing."""
        for number, file in enumerate(manifest.files, 1):
            said(f"checking {number} of {len(manifest.files)}: {file.path}")
            async for _ in self.read(manifest.name, file):
                pass

    async def finish(self, manifest: Manifest) -> None:
        """Write the manifest: from now on the backup is whole."""

        async def pieces() -> AsyncIterator[bytes]:
            yield manifest.encode()

        await self.place.write(f"{manifest.name}/{MANIFEST}", pieces())

    async def discard(self, name: str) -> None:
        """Remove what there is of a backup that was not finished."""
        await self.place.remove([path for path in await self.place.paths() if path.startswith(f"{name}/")])

    async def prune(self, keep: int) -> list[str]:
        """Remove all whole backups but the newest `keep`, and those that were interrupted long ago. Returns them."""
        old = (await self.whole())[keep:]
        limit = backup_name(datetime.now(UTC) - ABANDONED)
        gone = [*old, *(name for name in await self.interrupted() if name < limit)]
        files = await self.place.paths()
        # First the manifests: what is removed in part is not taken for whole.
        await self.place.remove([f"{name}/{MANIFEST}" for name in old])
        await self.place.remove([path for path in files if path.partition("/")[0] in gone])
        return gone

    async def _hint(self) -> str:
        interrupted = await self.interrupted()
        return f"; {interrupted[0]} was interrupted" if interrupted else ""
