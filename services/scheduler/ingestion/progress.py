"""The progress of a job on documents, written to the job's record a few times a second at most."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.errors import Error as NatsError

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.telemetry import INGESTED, INGESTED_BYTES, INGESTED_CHUNKS
from shared.contracts.jobs import DocumentError, JobProgress
from shared.contracts.problems import Problem
from shared.tasks import background

__all__ = ["ProgressReport"]

log = logging.getLogger(__name__)

INTERVAL: Final = 0.25
"""Seconds between two reports."""

KEPT_ERRORS: Final = 100


class ProgressReport:
    """Counts what has been done; `reporting` shows it as it grows, and once more at the end."""

    def __init__(self, run: JobContext, documents: int = 0) -> None:
        self._run = run
        self._errors: list[DocumentError] = []
        self._progress = JobProgress(documents=documents)
        self._counting = True
        self._dirty = True

    def begin(self, documents: int, message: str = "", *, counting: bool = True) -> None:
        """Count from the start again, up to so many documents; or leave it at what has been counted."""
        self._counting = counting
        if counting:
            self._progress = JobProgress(documents=documents, message=message)
            self._errors.clear()
            self._dirty = True

    def say(self, message: str) -> None:
        self._progress = self._progress.model_copy(update={"message": message})
        self._dirty = True

    def add(self, *, indexed: int = 0, skipped: int = 0, deleted: int = 0, chunks: int = 0, size: int = 0) -> None:
        if not self._counting:
            return
        INGESTED.labels("indexed").inc(indexed)
        INGESTED.labels("skipped").inc(skipped)
        INGESTED.labels("deleted").inc(deleted)
        INGESTED_CHUNKS.inc(chunks)
        INGESTED_BYTES.inc(size)
        old = self._progress
        self._progress = old.model_copy(
            update={
                "indexed": old.indexed + indexed,
                "skipped": old.skipped + skipped,
                "deleted": old.deleted + deleted,
                "chunks": old.chunks + chunks,
                "bytes": old.bytes + size,
            }
        )
        self._dirty = True

    @property
    def counts(self) -> dict[str, int]:
        """What has been done, as outputs of a job."""
        counted = {"documents", "indexed", "skipped", "deleted", "failed", "chunks"}
        return self._progress.model_dump(include=counted)

    def fail(self, document: str, problem: Problem) -> None:
        """One document cannot be done; the job goes on."""
        if not self._counting:
            return
        INGESTED.labels("failed").inc()
        self._progress = self._progress.model_copy(update={"failed": self._progress.failed + 1})
        if len(self._errors) < KEPT_ERRORS:
            kind = problem.kind
            self._errors.append(
                DocumentError(document=document, type=kind.uri, title=kind.title, detail=problem.detail)
            )
        self._dirty = True

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        try:
            async with background(self._keep_reporting()):
                yield
        except Problem:
            await self._report()  # it may say which documents are to blame
            raise
        await self._report()

    async def _keep_reporting(self) -> None:
        while True:
            if self._dirty:
                try:
                    await self._report()
                except (NatsError, TimeoutError) as error:
                    # The job need not wait for a broker that is away; the last report does.
                    log.warning("cannot report progress: %r", error)
                    self._dirty = True
            await asyncio.sleep(INTERVAL)

    async def _report(self) -> None:
        self._dirty = False
        update = {"progress": self._progress, "errors": tuple(self._errors)}
        await self._run.report(lambda job: job.model_copy(update=update))
