"""What `sluice ingest` does: uploads in bounded requests, follows their jobs, prunes what is gone."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from sluice.api.jobs import Job, JobState, Progress
from sluice.cli.files import LARGEST_FILE, LONGEST_NAME, Picked, batches, called, grouped, still_there
from sluice.client import AsyncClient, Upload
from sluice.client.errors import SluiceError

__all__ = ["Outcome", "Plan", "Progressing", "run"]

COUNTS = tuple(name for name, field in Progress.model_fields.items() if field.annotation is int)
FOLLOWED_AT_ONCE = 8
NAMES_BYTES = 4096
"""Encoded document names in one request's address; servers bound its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    collection: str
    files: tuple[Picked, ...]
    folders: tuple[Path, ...]
    metadata: dict[str, Any]
    prune: bool
    wait: bool


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How it went so far. `jobs` holds the latest known state of each job; `local` failures never left this machine."""

    total: int
    jobs: dict[str, Job] = field(default_factory=dict)
    local: list[tuple[str, str]] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    pruned: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> Progress:
        """The sums over all jobs, and the local failures."""
        sums: Counter[str] = Counter()
        for job in self.jobs.values():
            sums.update({name: getattr(job.progress, name) for name in COUNTS})
        sums["failed"] += len(self.local)
        return Progress(**sums)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Documents with their reasons; a job reports its first hundred."""
        remote = [(error.document, error.reason) for job in self.jobs.values() for error in job.errors]
        return [*self.local, *remote]

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Documents with what was not read of them; a job reports its first hundred."""
        return [(one.document, one.detail) for job in self.jobs.values() for one in job.warnings]

    @property
    def broken(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state in (JobState.FAILED, JobState.CANCELLED)]

    @property
    def failed(self) -> bool:
        return self.counts.failed > 0 or bool(self.broken)


class Progressing(Protocol):
    """Shows an ingestion to a person or a program."""

    def begin(self, plan: Plan, outcome: Outcome) -> None:
        """Called once, before anything is sent."""

    def advance(self, outcome: Outcome) -> None:
        """Called at every change."""

    def end(self, plan: Plan, outcome: Outcome) -> None:
        """Called once when all is done; with `plan.wait` false the jobs still run."""

    def interrupted(self, outcome: Outcome) -> None:
        """Called instead of `end` when the person or an error stops it."""


async def run(plan: Plan, url: str | None, screen: Progressing) -> Outcome:
    """Carry a plan out; raises `SluiceError` where Sluice refuses or goes away for longer than a minute."""
    outcome = Outcome(total=len(plan.files))
    began = time.monotonic()
    async with AsyncClient(url) as client:
        if not await _exists(client, plan.collection):
            await client.create_collection(plan.collection)
        screen.begin(plan, outcome)
        try:
            await _send_and_follow(client, plan, outcome, screen)
            outcome.stale = await _stale(client, plan)
            if plan.prune and outcome.stale:
                outcome.pruned = await _prune(client, plan, outcome.stale)
        except BaseException:
            screen.interrupted(outcome)
            raise
    outcome.seconds = time.monotonic() - began
    screen.end(plan, outcome)
    return outcome


async def _exists(client: AsyncClient, collection: str) -> bool:
    try:
        await client.collection(collection)
    except SluiceError as error:
        if error.code != "collection-not-found":
            raise
        return False
    return True


async def _send_and_follow(client: AsyncClient, plan: Plan, outcome: Outcome, screen: Progressing) -> None:
    def changed(job: Job) -> None:
        outcome.jobs[job.id] = job
        screen.advance(outcome)

    slots = asyncio.Semaphore(FOLLOWED_AT_ONCE)
    try:
        async with asyncio.TaskGroup() as group:
            for batch in batches(_sendable(plan.files, outcome)):
                uploads = await asyncio.to_thread(_read, batch, outcome)
                if not uploads:
                    continue
                job = await client.upload(plan.collection, uploads, metadata=plan.metadata, allowed=batch[0].allowed)
                changed(job)
                if plan.wait:
                    group.create_task(_follow(client, job.id, changed, slots))
    except* SluiceError as errors:
        raise errors.exceptions[0] from None


async def _follow(client: AsyncClient, job_id: str, changed: Callable[[Job], None], slots: asyncio.Semaphore) -> None:
    async with slots, aclosing(client.watch(job_id)) as changes:
        async for job in changes:
            changed(job)


def _sendable(files: Iterable[Picked], outcome: Outcome) -> list[Picked]:
    """The files that the server would take; the others are noted as failed, as it would."""
    sendable = []
    for file in files:
        if file.size > LARGEST_FILE:
            outcome.local.append((file.name, f"The file is {file.size / 2**20:.0f} MB; at most 50 MB are taken"))
        elif (length := len(file.name.encode())) > LONGEST_NAME:
            outcome.local.append((file.name, f"The name has {length} bytes; at most {LONGEST_NAME} are taken"))
        else:
            sendable.append(file)
    return sendable


def _read(batch: Sequence[Picked], outcome: Outcome) -> list[Upload]:
    uploads = []
    for file in batch:
        try:
            uploads.append(Upload(name=file.name, content=file.path.read_bytes()))
        except OSError as error:
            outcome.local.append((file.name, f"The file cannot be read: {error.strerror or error}"))
    return uploads


async def _stale(client: AsyncClient, plan: Plan) -> list[str]:
    """Names of documents below the given folders' names whose files are gone."""
    names: set[str] = set()
    for folder in plan.folders:
        async for document in _documents_below(client, plan.collection, folder):
            if not still_there(folder, document):
                names.add(document)
    return sorted(names)


async def _documents_below(client: AsyncClient, collection: str, folder: Path) -> AsyncIterator[str]:
    async with aclosing(client.documents(collection, prefix=f"{called(folder)}/")) as documents:
        async for document in documents:
            yield document.name


async def _prune(client: AsyncClient, plan: Plan, names: Sequence[str]) -> int:
    deleted = 0
    for group in grouped(names, lambda name: len(quote(name)) + len("&name="), most_size=NAMES_BYTES):
        job = await client.delete_documents(plan.collection, group)
        if plan.wait:
            job = await client.wait(job.id)
        deleted += job.progress.deleted if plan.wait else len(group)
    return deleted
