"""The progress of a job on documents: what has been done, in its record and in the metrics."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.telemetry import INGESTED, INGESTED_BYTES, INGESTED_CHUNKS
from shared.contracts.problems import Problem
from shared.contracts.warnings import DocumentWarning

__all__ = ["ProgressReport"]

INTERVAL: Final = 0.25
"""Seconds between two reports."""

OUTPUTS: Final = {"documents", "indexed", "skipped", "deleted", "failed", "chunks"}


class ProgressReport:
    """Counts what has been done; `reporting` shows it as it grows, and once more at the end."""

    def __init__(self, context: JobContext, documents: int = 0) -> None:
        self._context = context
        self._counting = True
        context.begin_progress(documents=documents)

    def begin(self, documents: int, message: str = "", *, counting: bool = True) -> None:
        """Count from the start again, up to so many documents; or leave it at what has been counted."""
        self._counting = counting
        if counting:
            self._context.begin_progress(documents=documents, message=message)

    def say(self, message: str) -> None:
        self._context.progress(message=message)

    def add(self, *, indexed: int = 0, skipped: int = 0, deleted: int = 0, chunks: int = 0, size: int = 0) -> None:
        if not self._counting:
            return
        INGESTED.labels("indexed").inc(indexed)
        INGESTED.labels("skipped").inc(skipped)
        INGESTED.labels("deleted").inc(deleted)
        INGESTED_CHUNKS.inc(chunks)
        INGESTED_BYTES.inc(size)
        self._context.add_progress(indexed=indexed, skipped=skipped, deleted=deleted, chunks=chunks, bytes=size)

    @property
    def counts(self) -> dict[str, int]:
        """What has been done, as outputs of a job."""
        return self._context.shown_progress.model_dump(include=OUTPUTS)

    def fail(self, document: str, problem: Problem) -> None:
        """One document cannot be done; the job goes on."""
        if self._counting:
            INGESTED.labels("failed").inc()
            self._context.fail_item(document, problem)

    def warn(self, document: str, warnings: Sequence[DocumentWarning]) -> None:
        """What of a document is not in the index, though the document is."""
        if self._counting and warnings:
            self._context.warn_item(document, warnings)

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        async with self._context.reporting(INTERVAL):
            yield
