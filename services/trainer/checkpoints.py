"""Saves checkpoints while training runs in its thread, and finds the one to go on from."""

import asyncio
import logging
import shutil
from functools import partial
from pathlib import Path

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import BadObjectMetaError, DigestMismatchError

from services.trainer.archive import BrokenCheckpointError, pack, unpack
from services.trainer.broker import patiently
from shared.contracts.problems import Problem, ProblemType
from shared.stores.training import SavedCheckpoint, TrainingCheckpoints

__all__ = ["JobCheckpoints"]

log = logging.getLogger(__name__)


class JobCheckpoints:
    """The checkpoints of one job. `folder` is for archives on their way."""

    def __init__(
        self, jetstream: JetStreamContext, tenant: str, job: str, folder: Path, *, most_bytes: int, patience: float
    ) -> None:
        self._store = TrainingCheckpoints(jetstream)
        self._tenant = tenant
        self._job = job
        self._folder = folder
        self._most = most_bytes
        self._patience = patience
        self._loop = asyncio.get_running_loop()

    def save(self, folder: Path, step: int) -> None:
        """Store a folder as the checkpoint of this step; from a thread. While the broker is away training goes on from
        the last one: then this checkpoint is left out."""
        archive = self._folder / "checkpoint.tar"
        pack(folder, archive, most_bytes=self._most)
        try:
            asyncio.run_coroutine_threadsafe(self._put(archive, step), self._loop).result()
        except Problem as problem:
            if problem.kind is not ProblemType.BROKER_UNAVAILABLE:
                raise
            log.warning("the checkpoint of step %d is left out: %s", step, problem)
        finally:
            archive.unlink(missing_ok=True)

    def save_scores(self, content: bytes) -> None:
        """Store a teacher's scores; from a thread. While the broker is away they are left out, as a checkpoint is."""

        async def put() -> None:
            await patiently(partial(self._store.put_scores, self._tenant, self._job, content), self._patience)

        try:
            asyncio.run_coroutine_threadsafe(put(), self._loop).result()
        except Problem as problem:
            if problem.kind is not ProblemType.BROKER_UNAVAILABLE:
                raise
            log.warning("the teacher's scores are not kept: %s", problem)

    def load_scores(self) -> bytes | None:
        """The scores that an earlier try has kept; from a thread. Raises Problem BROKER_UNAVAILABLE."""

        async def get() -> bytes | None:
            try:
                return await self._store.scores(self._tenant, self._job)
            except (DigestMismatchError, BadObjectMetaError) as error:
                log.warning("the teacher's scores that were kept are of no use: %r", error)
                return None

        return asyncio.run_coroutine_threadsafe(patiently(get, self._patience), self._loop).result()

    async def restore(self, into: Path) -> SavedCheckpoint | None:
        """Have the newest checkpoint that can be read in a folder; None where there is none."""
        for saved in await patiently(lambda: self._store.list(self._tenant, self._job), self._patience):
            archive = self._folder / f"{into.name}.tar"
            try:
                await patiently(partial(self._read, saved, archive), self._patience)
                await asyncio.to_thread(unpack, archive, into, most_bytes=self._most)
            except (BrokenCheckpointError, NatsError, OSError) as error:
                log.warning("the checkpoint of step %d is of no use: %r", saved.step, error)
                shutil.rmtree(into, ignore_errors=True)
            else:
                return saved
            finally:
                archive.unlink(missing_ok=True)
        return None

    async def _put(self, archive: Path, step: int) -> None:
        async def put() -> None:
            with archive.open("rb") as content:
                await self._store.put(self._tenant, self._job, step, content)

        await patiently(put, self._patience)

    async def _read(self, saved: SavedCheckpoint, archive: Path) -> None:
        with archive.open("wb") as file:
            try:
                await self._store.read(saved, file)
            except (DigestMismatchError, BadObjectMetaError) as error:
                raise BrokenCheckpointError(repr(error)) from error
