"""The job kind `batch`: answers every line of a JSONL file on the batch lane."""

import asyncio
import logging
from collections.abc import Iterator
from io import BufferedRandom
from tempfile import TemporaryFile
from typing import Final

import anyio
from anyio import to_thread
from nats.errors import Error as NatsError
from pydantic import BaseModel, ConfigDict, JsonValue

from services.scheduler.batches.lines import Line, body_of, scan
from services.scheduler.batches.results import Result, Results, failed_result, problem_of, replied_result
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from shared.contracts.batches import ERRORS, EXPIRED, OUTPUT, Phase
from shared.contracts.jobs import BatchSpec
from shared.contracts.problems import Problem
from shared.stores.files import FileRecord, file_id
from shared.tasks import background, task_group

__all__ = ["BatchJob"]

log = logging.getLogger(__name__)

LOOK: Final = 1.0
"""Seconds between looks at whether results have waited long enough for their part."""

BREAKING_OFF: Final = 60.0
"""Seconds for a batch that is broken off to keep what it has."""

REMOVED_AT_ONCE: Final = 16

FILES: Final = {OUTPUT: "output_file", ERRORS: "error_file"}
"""The artifacts that a batch makes, each with the output that holds its id among the tenant's files."""


class _Checkpoint(BaseModel):
    """The parts that hold results, and in the end the outputs of the job."""

    model_config = ConfigDict(frozen=True)

    parts: tuple[str, ...] = ()
    outputs: dict[str, JsonValue] | None = None


class BatchJob:
    """One try at a batch. What it has answered it keeps in parts: artifacts that a later try goes on from.

    Two workers may be at the same batch for a moment, one of which has been given up. Each writes parts of its own, and
    of two results for one request the first counts, so whatever one of them overlooks is only answered again.
    """

    def __init__(self, dependencies: JobDependencies, context: JobContext, spec: BatchSpec) -> None:
        self._dependencies = dependencies
        self._context = context
        self._spec = spec
        self._source: BufferedRandom = TemporaryFile()  # noqa: SIM115  (closed with the batch)
        self._lines: list[Line] = []
        self._results = Results()
        self._names: list[str] = []
        self._written = 0
        self._restored = False
        self._saving = asyncio.Lock()

    def close(self) -> None:
        self._source.close()
        self._results.close()

    async def answer(self) -> None:
        """Raises Problem for an input that cannot be used."""
        checkpoint = await self._checkpoint()
        if checkpoint.outputs is not None:  # only the end of the job was not noted
            self._context.outputs.update(checkpoint.outputs)
            self._context.artifacts += [file for file, output in FILES.items() if output in checkpoint.outputs]
            return
        async with self._context.reporting():
            try:
                await self._open(checkpoint)
                await self._answer_rest()
                await self._save()
                await self._finish()
                await self._context.save(_Checkpoint(outputs=self._context.outputs).model_dump(mode="json"))
                await self._remove_parts()
            except asyncio.CancelledError:
                await self._break_off(checkpoint)
                raise

    async def _open(self, checkpoint: _Checkpoint) -> None:
        self._context.progress(message=Phase.VALIDATING)
        _, chunks = await self._dependencies.artifacts.open(self._context.tenant, await self._input())
        async for data in chunks:
            self._source.write(data)
        self._lines = await to_thread.run_sync(scan, self._source, self._spec.endpoint)
        await self._restore(checkpoint)
        self._context.progress(message=Phase.IN_PROGRESS)

    async def _input(self) -> str:
        """The name of the input's artifact. Raises Problem NOT_FOUND."""
        if "/" in self._spec.input:
            return self._spec.input
        return (await self._dependencies.files.get(self._context.tenant, self._spec.input)).artifact

    async def _checkpoint(self) -> _Checkpoint:
        saved = await self._context.checkpoint()
        return _Checkpoint() if saved is None else _Checkpoint.model_validate(saved)

    async def _restore(self, checkpoint: _Checkpoint) -> None:
        """Take in what earlier tries have answered."""
        for name in checkpoint.parts:
            try:
                part = await self._dependencies.artifacts.get(self._context.tenant, f"{self._context.job.id}/{name}")
            except Problem:
                continue  # what it held is answered again
            for result in await to_thread.run_sync(_results_in, part):
                self._note(result)
        self._results.saved(self._results.unsaved())
        self._names = list(checkpoint.parts)
        self._restored = True
        self._show()

    async def _answer_rest(self) -> None:
        rest = iter([line for line in self._lines if line.custom_id not in self._results])
        async with background(self._keep_saving()), task_group() as tasks:
            for _ in range(self._spec.concurrency):
                tasks.create_task(self._answer_some(rest))

    async def _answer_some(self, rest: Iterator[Line]) -> None:
        job, tenant = self._context.job.id, self._context.tenant
        for line in rest:
            try:
                body = body_of(self._source, line)
                reply = await self._dependencies.requests.send(
                    self._spec.endpoint,
                    body,
                    tenant=tenant,
                    collections=self._context.job.options.collections,
                    principals=self._context.principals,
                )
                result = replied_result(job, line.custom_id, reply)
            except Problem as problem:
                result = failed_result(job, line.custom_id, problem.kind.code, problem.detail)
            self._note(result)
            self._show()
            if self._results.due(len(self._names)):
                await self._save()

    def _note(self, result: Result) -> None:
        if self._results.add(result) and result.failed:
            self._context.fail_item(result.custom_id, problem_of(result))

    def _show(self) -> None:
        self._context.progress(done=len(self._results), total=len(self._lines))

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if self._results.due(len(self._names)):
                await self._save()

    async def _save(self) -> None:
        """Keep what has come in as one more part. What cannot be kept now is kept with the next one."""
        async with self._saving:
            part = self._results.unsaved()
            if not part:
                return
            self._written += 1
            name = f"part-{self._context.job.attempt:02}-{self._written:05}.jsonl"
            try:
                await self._dependencies.artifacts.put(self._context.tenant, f"{self._context.job.id}/{name}", part)
                await self._context.save(_Checkpoint(parts=(*self._names, name)).model_dump(mode="json"))
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("cannot keep results of a batch yet: %r", error, extra={"job": self._context.job.id})
            else:
                self._names.append(name)
                self._results.saved(part)

    async def _break_off(self, checkpoint: _Checkpoint) -> None:
        """Keep what has been answered, and write it out unless another worker goes on."""
        try:
            with anyio.move_on_after(BREAKING_OFF, shield=True):
                if not self._restored:
                    await self._restore(checkpoint)
                await self._save()
                job = await self._dependencies.job_store.get(self._context.tenant, self._context.job.id)
                remaining = self._context.remaining
                if job.cancel_requested:
                    await self._finish()
                elif remaining is not None and remaining <= LOOK:
                    self._expire()
                    await self._finish()
        except (NatsError, TimeoutError, OSError, Problem) as error:
            log.warning("cannot write out a batch that was broken off: %r", error, extra={"job": self._context.job.id})

    def _expire(self) -> None:
        message = "The request was not answered before the batch expired."
        for line in self._lines:
            self._note(failed_result(self._context.job.id, line.custom_id, EXPIRED, message))

    async def _finish(self) -> None:
        """Write the output and the errors, each if there are any, and say so in the outputs of the job."""
        self._context.progress(message=Phase.FINALIZING)
        self._show()
        await self._context.show()
        counts = {"completed": self._results.completed, "failed": self._results.failed, "total": len(self._lines)}
        self._context.outputs.update(counts)
        with TemporaryFile() as output, TemporaryFile() as errors:
            order = [line.custom_id for line in self._lines]
            await to_thread.run_sync(self._results.write, order, output, errors)
            for file, data in ((OUTPUT, output), (ERRORS, errors)):
                if data.tell():
                    self._context.outputs[FILES[file]] = await self._publish(file, data)

    async def _publish(self, file: str, data: BufferedRandom) -> str:
        """Keep a file with the job and among the files of the tenant. Returns its id there."""
        job, size = self._context.job, data.tell()
        data.seek(0)
        record = FileRecord(
            id=file_id(f"{job.tenant}/{job.id}/{file}"),
            tenant=job.tenant,
            filename=f"{job.id}_{file}",
            purpose="batch_output",
            bytes=size,
            artifact=await self._context.attach(file, data),
            created_at=job.started_at or job.created_at,
        )
        await self._dependencies.files.put(record)
        return record.id

    async def _remove_parts(self) -> None:
        some = asyncio.Semaphore(REMOVED_AT_ONCE)

        async def remove(name: str) -> None:
            async with some:
                await self._dependencies.artifacts.delete(self._context.tenant, f"{self._context.job.id}/{name}")

        async with asyncio.TaskGroup() as tasks:
            for name in self._names:
                tasks.create_task(remove(name))


def _results_in(part: bytes) -> list[Result]:
    return [Result.read(line) for line in part.split(b"\n") if line]


@job_kind(BatchSpec, pool=Pool.LONG)
def batch(dependencies: JobDependencies) -> JobFunction:
    async def perform(context: JobContext) -> None:
        assert isinstance(context.spec, BatchSpec)
        batch_job = BatchJob(dependencies, context, context.spec)
        try:
            await batch_job.answer()
        finally:
            batch_job.close()

    return perform
