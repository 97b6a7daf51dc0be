"""Artifacts: files that jobs read and leave behind, kept in an object store until the job's history goes.

An artifact's name is `<tenant>/<owner>/<file>`; the owner is a job or an upload.
"""

import asyncio
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from hashlib import sha256
from io import BufferedIOBase
from pathlib import Path
from typing import Final

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ObjectInfo
from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore
from pydantic import JsonValue

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.wire import texts_in
from shared.nats.client import SEQUENCE, read_messages
from shared.nats.objects import read_object
from shared.nats.subjects import ARTIFACTS, store_stream

__all__ = ["Artifacts", "BrokenArtifactError", "check_artifact", "names_in"]

FETCHED: Final = 16
"""Chunks, 128 kB each, that are asked for at once."""

SILENCE: Final = 10.0
"""Seconds for the broker to send the next one."""

PAUSES: Final = (0.05, 0.2, 1.0, 0.0)
"""Seconds before chunks are asked for again that were not there."""

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_artifact(name: str) -> str:
    """`<owner>/<file>`. Raises Problem INVALID_NAME."""
    if not NAME.fullmatch(name):
        raise Problem(
            ProblemType.INVALID_NAME,
            f"An artifact is named <job or upload>/<file>, with letters, digits, '.', '_' and '-', not {name[:80]!r}.",
        )
    return name


def names_in(value: JsonValue) -> Iterator[str]:
    """The texts anywhere in it that are written as an artifact's name is."""
    return (text for text in texts_in(value) if NAME.fullmatch(text))


class BrokenArtifactError(Exception):
    """The bytes of an artifact are not those that were stored under its name."""


class Artifacts:
    """The artifacts of all tenants. Names here are `<owner>/<file>`."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._store: ObjectStore | None = None

    async def put(self, tenant: str, name: str, data: bytes | BufferedIOBase) -> int:
        """Store or replace an artifact. Returns its size in bytes."""
        info = await (await self._open()).put(f"{tenant}/{check_artifact(name)}", data)
        return info.size or 0

    async def get(self, tenant: str, name: str) -> bytes:
        """Raises Problem NOT_FOUND."""
        try:
            return await read_object(await self._open(), f"{tenant}/{check_artifact(name)}")
        except ObjectNotFoundError:
            raise _missing(name) from None

    async def save(self, tenant: str, name: str, path: Path) -> None:
        """Write an artifact to a file, without holding all of it in memory. Raises Problem NOT_FOUND."""
        with path.open("wb") as file:
            try:
                await read_object(await self._open(), f"{tenant}/{check_artifact(name)}", file)
            except ObjectNotFoundError:
                raise _missing(name) from None

    async def open(self, tenant: str, name: str) -> tuple[int, AsyncGenerator[bytes, None]]:
        """The size of an artifact, and its bytes piece by piece, no faster than they are taken. Raises Problem
        NOT_FOUND at once.

        The pieces raise nats errors and BrokenArtifactError, also where the artifact is replaced or removed meanwhile.
        The last piece comes only once all bytes are those that were stored: what breaks off never looks whole.
        """
        info = await self._info(tenant, name)
        return info.size or 0, self._read(info)

    async def _read(self, info: ObjectInfo) -> AsyncGenerator[bytes, None]:
        left, held, digest = info.size or 0, b"", sha256()
        async with aclosing(self._chunks(info)) as chunks:
            async for chunk in chunks:
                if held:
                    yield held
                held = chunk
                left -= len(held)
                digest.update(held)
        if not info.size:
            return
        expected = f"SHA-256={urlsafe_b64encode(digest.digest()).decode()}"
        if left or (info.digest and info.digest.rstrip("=") != expected.rstrip("=")):
            raise BrokenArtifactError(str(info.name))
        yield held

    async def _chunks(self, info: ObjectInfo) -> AsyncGenerator[bytes, None]:
        """The chunks of an object. Raises nats errors, and BrokenArtifactError where some are missing."""
        left, after = info.chunks or 0, 0
        while left > 0:
            some = await self._next_chunks(info, after)
            if not some:
                raise BrokenArtifactError(str(info.name))
            for chunk in some:
                yield chunk.data
            left -= len(some)
            after = int((some[-1].headers or {})[SEQUENCE])

    async def _next_chunks(self, info: ObjectInfo, after: int) -> list[Msg]:
        """Asked again while there are none: a node of a cluster that has the object's record may not have all of the
        object yet."""
        for pause in PAUSES:
            found = await read_messages(
                self._js,
                store_stream(ARTIFACTS),
                f"$O.{ARTIFACTS}.C.{info.nuid}",
                start=after + 1,
                most=FETCHED,
                timeout=SILENCE,
            )
            if found:
                return found
            await asyncio.sleep(pause)
        return []

    async def size(self, tenant: str, name: str) -> int:
        """Raises Problem NOT_FOUND."""
        return (await self._info(tenant, name)).size or 0

    async def digest(self, tenant: str, name: str) -> str:
        """The hash of an artifact's bytes: artifacts of the same bytes have the same. Raises Problem NOT_FOUND."""
        return (await self._info(tenant, name)).digest or ""

    async def delete(self, tenant: str, name: str) -> None:
        """One that is not there is no error."""
        try:
            await (await self._open()).delete(f"{tenant}/{check_artifact(name)}")
        except ObjectNotFoundError:
            return

    async def names(self, tenant: str, owner: str) -> AsyncIterator[str]:
        """The files of one owner."""
        prefix = f"{tenant}/{owner}/"
        for info in await (await self._open()).list():
            if info.name.startswith(prefix) and not info.deleted:
                yield info.name.removeprefix(prefix)

    async def _info(self, tenant: str, name: str) -> ObjectInfo:
        try:
            return await (await self._open()).get_info(f"{tenant}/{check_artifact(name)}")
        except ObjectNotFoundError:
            raise _missing(name) from None

    async def _open(self) -> ObjectStore:
        if self._store is None:
            self._store = await self._js.object_store(ARTIFACTS)
        return self._store


def _missing(name: str) -> Problem:
    return Problem(ProblemType.NOT_FOUND, f"There is no artifact '{name}'.")
