"""Checkpoints of trainings, in the broker's object store `training`: the last two of each job, and a teacher's scores.

Each of the two has a name of its own, and a new one takes the place of the older. It is there at once and whole, or the
older one still is. So are the scores.
"""

from dataclasses import dataclass
from io import BufferedIOBase
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import ObjectMeta
from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from shared.nats.objects import read_object
from shared.nats.subjects import TRAINING

__all__ = ["SavedCheckpoint", "TrainingCheckpoints"]

SLOTS: Final = ("a", "b")
SCORES: Final = "scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """`step` is that of the training, `size` in bytes."""

    name: str
    step: int
    size: int


class TrainingCheckpoints:
    """The checkpoints of all tenants' trainings. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._store: ObjectStore | None = None

    async def put(self, tenant: str, job: str, step: int, content: BufferedIOBase) -> None:
        """Keep a checkpoint, in the place of the older one of two."""
        known = await self.list(tenant, job)
        taken = {checkpoint.name for checkpoint in known}
        free = [name for name in _names(tenant, job) if name not in taken]
        name = free[0] if free else known[-1].name
        await (await self._open()).put(name, content, ObjectMeta(description=str(step)))

    async def list(self, tenant: str, job: str) -> "list[SavedCheckpoint]":
        """The newest first."""
        store = await self._open()
        found = []
        for name in _names(tenant, job):
            try:
                info = await store.get_info(name)
            except ObjectNotFoundError:
                continue
            found.append(SavedCheckpoint(name=name, step=int(info.description or 0), size=info.size or 0))
        return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)

    async def read(self, checkpoint: SavedCheckpoint, into: BufferedIOBase) -> None:
        """Raises nats errors, also where the bytes are not those that were stored."""
        await read_object(await self._open(), checkpoint.name, into)

    async def put_scores(self, tenant: str, job: str, content: bytes) -> None:
        """Keep a teacher's scores, in the place of those before."""
        await (await self._open()).put(f"{tenant}/{job}/{SCORES}", content)

    async def scores(self, tenant: str, job: str) -> bytes | None:
        """A teacher's scores; None where none are kept. Raises nats errors, also where the bytes are not those that
        were stored."""
        try:
            return await read_object(await self._open(), f"{tenant}/{job}/{SCORES}")
        except ObjectNotFoundError:
            return None

    async def delete(self, tenant: str, job: str) -> None:
        """Remove a job's checkpoints and scores; none is no error."""
        store = await self._open()
        for name in (*_names(tenant, job), f"{tenant}/{job}/{SCORES}"):
            try:
                await store.delete(name)
            except ObjectNotFoundError:
                continue

    async def _open(self) -> ObjectStore:
        if self._store is None:
            self._store = await self._js.object_store(TRAINING)
        return self._store


def _names(tenant: str, job: str) -> tuple[str, ...]:
    return tuple(f"{tenant}/{job}/{slot}" for slot in SLOTS)
