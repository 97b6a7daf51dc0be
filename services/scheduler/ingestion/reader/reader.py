"""Reads documents in separate processes, so that a malicious document harms nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from services.scheduler.ingestion.chunking.chunker import Chunk, Chunking
from services.scheduler.ingestion.reader.worker import EXIT_MEMORY, LENGTH_BYTES, WorkerOptions
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.contracts.warnings import DocumentWarning
from shared.fairness import FairShare, FairSlots, Weights

__all__ = ["ChunkedDocument", "DocumentReader", "WorkerStartError"]

MAX_DOCUMENT_BYTES = 50 * 2**20
_START_LIMIT_S = 60.0
_EXIT_LIMIT_S = 5.0
# What a worker may know of the environment: credentials of the service are none of a parser's business.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "TZ")


class WorkerStartError(RuntimeError):
    """No worker process could be started: the installation or the settings are wrong, not a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedDocument:
    """A document in chunks, at least one; `metadata` and `warnings` are those of ParsedDocument."""

    media_type: str
    metadata: Mapping[str, str | int]
    chunks: tuple[Chunk, ...]
    warnings: tuple[DocumentWarning, ...] = ()


class DocumentReader:
    """A pool of processes that parse and chunk documents.

        async with DocumentReader(workers=2) as reader:
            document = await reader.read("report.pdf", path)

    At most `workers` documents are read at a time; further calls wait, in fair order over their tenants. Up to `spare`
    further processes read for tenants of which nothing is being read. The first process starts with the reader, the
    others when they are needed. A document that takes longer than
    `time_limit_s` or more than `memory_limit_bytes` (Linux only), or that crashes its process, fails alone:
    the process is killed and another takes its place. A process is also replaced after `documents_per_worker`
    documents, or when it has grown. The processes end with the service, even if it is killed (Linux only, and
    where the thread that runs the event loop lives as long as the service).

    `tokenizer` is a tokenizer.json or a model folder; None takes the packaged model's. `formats` names more
    formats as "module:attribute", each a `parsing.Format` or an iterable of them; they win over built-in ones.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        spare: int = 0,
        weights: Weights | None = None,
        tokenizer: Path | None = None,
        chunking: Chunking | None = None,
        time_limit_s: float = 60.0,
        memory_limit_bytes: int = 2**30,
        max_document_bytes: int = MAX_DOCUMENT_BYTES,
        documents_per_worker: int = 200,
        formats: Sequence[str] = (),
    ) -> None:
        self._time_limit_s = time_limit_s
        self._memory_limit_bytes = memory_limit_bytes
        self._max_document_bytes = max_document_bytes
        self._room = FairSlots(FairShare(workers, spare=spare, weights=weights))
        self._most_idle = workers
        self._idle: list[_Worker] = []
        self._method = ""
        self._chunking = chunking or Chunking()
        self._options = WorkerOptions(
            parent=os.getpid(),
            tokenizer=str(tokenizer) if tokenizer else None,
            memory_bytes=memory_limit_bytes,
            documents=documents_per_worker,
            formats=tuple(formats),
        )

    async def __aenter__(self) -> Self:
        """Start one process. Raises WorkerStartError if that cannot work."""
        worker = await _Worker.start(self._options)
        self._method = worker.method
        self._idle.append(worker)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all processes. Every `read` must have returned or been cancelled by then."""
        await self._stop_all()

    @property
    def chunking(self) -> Chunking:
        """How documents are cut where `read` is given no other chunking."""
        return self._chunking

    def fingerprint(self, chunking: Chunking | None = None) -> str:
        """Equal fingerprints promise equal chunks for equal documents. Only once the reader is entered."""
        return f"{self._method};{(chunking or self._chunking).fingerprint}"

    async def read(
        self,
        name: str,
        source: Path | bytes,
        media_type: str | None = None,
        *,
        chunking: Chunking | None = None,
        tenant: str = "",
    ) -> ChunkedDocument:
        """The chunks of a tenant's document that is given as its bytes or as the path of a file that holds them.

        `name` and `media_type` only help to recognise the format. Raises Problem with TOO_LARGE,
        UNSUPPORTED_DOCUMENT, BROKEN_DOCUMENT, ENCRYPTED_DOCUMENT, EMPTY_DOCUMENT or DOCUMENT_LIMIT; OSError if
        the file cannot be read. Cancelling ends the work at once.
        """
        size = len(source) if isinstance(source, bytes) else (await anyio.Path(source).stat()).st_size
        if size > self._max_document_bytes:
            limit = self._max_document_bytes // 2**20
            raise Problem(ProblemType.TOO_LARGE, f"The document has {size} bytes; {limit} MiB are allowed.")
        async with self._room.slot(tenant):
            worker = self._idle.pop() if self._idle else await _Worker.start(self._options)
            try:
                return await self._read(worker, name, source, media_type, chunking or self._chunking)
            finally:
                if worker.is_usable and len(self._idle) < self._most_idle:
                    self._idle.append(worker)
                else:
                    await worker.stop()

    async def _read(
        self, worker: _Worker, name: str, source: Path | bytes, media_type: str | None, chunking: Chunking
    ) -> ChunkedDocument:
        try:
            with anyio.fail_after(self._time_limit_s):
                return await worker.read(name, source, media_type, chunking)
        except TimeoutError as error:
            detail = f"Reading the document took longer than {self._time_limit_s:g} s."
            raise Problem(ProblemType.DOCUMENT_LIMIT, detail) from error
        except _EndedError as error:
            raise self._cause(await worker.status()) from error

    def _cause(self, status: int) -> Problem:
        """Why a worker died while it read. A failed allocation within a library mostly ends in SIGABRT."""
        if status in (EXIT_MEMORY, -signal.SIGABRT, -signal.SIGKILL):
            limit = self._memory_limit_bytes // 2**20
            detail = f"Reading the document took more memory than allowed ({limit} MiB)."
            return Problem(ProblemType.DOCUMENT_LIMIT, detail)
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Problem(ProblemType.BROKEN_DOCUMENT, f"The document crashed its reader ({how}).")

    async def _stop_all(self) -> None:
        while self._idle:
            await self._idle.pop().stop()


class _EndedError(Exception):
    """The worker process has closed its end."""


class _Worker:
    """One process and its protocol, which document_worker describes.

    It is usable until a read has failed halfway, because then the streams hold the rest of that answer.
    """

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._replies = BufferedByteReceiveStream(process.stdout)
        self.is_usable = False
        self.method = ""

    @classmethod
    async def start(cls, options: WorkerOptions) -> Self:
        """A process that has loaded what it needs. Raises WorkerStartError."""
        module = "services.scheduler.ingestion.reader.worker"
        command = [sys.executable, "-P", "-m", module, json.dumps(asdict(options))]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONUTF8": "1",
            "TOKENIZERS_PARALLELISM": "false",  # one document, one core
        }
        process = await anyio.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, env=environment
        )
        worker = cls(process)
        try:
            with anyio.fail_after(_START_LIMIT_S):
                await worker._begin()
        except (_EndedError, TimeoutError) as error:
            raise WorkerStartError(f"A worker ended with status {await worker.status()} when it started.") from error
        except BaseException:
            await worker.stop()
            raise
        return worker

    async def _begin(self) -> None:
        reply = await self._receive()
        if "ready" not in reply:
            raise WorkerStartError(reply["failed"])
        self.method = reply["ready"]
        self.is_usable = True

    async def read(
        self, name: str, source: Path | bytes, media_type: str | None, chunking: Chunking
    ) -> ChunkedDocument:
        """As DocumentReader.read; raises _EndedError if the process ended."""
        self.is_usable = False
        data = source if isinstance(source, bytes) else b""
        path = None if isinstance(source, bytes) else os.fspath(await anyio.Path(source).absolute())
        about = {"name": name, "media_type": media_type, "path": path, "chunking": asdict(chunking)}
        await self._send({**about, "size": len(data)}, data)
        chunks: list[Chunk] = []
        while "chunks" in (reply := await self._receive()):
            for text, page, heading, section in reply["chunks"]:
                chunks.append(Chunk(position=len(chunks), text=text, page=page, heading=heading, section=section))
        self.is_usable = not reply["retire"]
        if "problem" in reply:
            raise Problem.from_details(ProblemDetails(**reply["problem"]))
        done = reply["done"]
        told = tuple(DocumentWarning(kind=kind, detail=detail) for kind, detail in done.pop("warnings"))
        return ChunkedDocument(**done, chunks=tuple(chunks), warnings=told)

    async def status(self) -> int:
        """The exit status of a process that has closed its end; a negative one is a signal.

        It is waited for before it is killed: asyncio loses the status of a process that ends as it is killed.
        """
        with anyio.move_on_after(_EXIT_LIMIT_S):
            await self._process.wait()
        await self.stop()
        assert self._process.returncode is not None
        return self._process.returncode

    async def stop(self) -> None:
        """Kill the process if it lives, and wait for its end."""
        self.is_usable = False
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            await self._process.aclose()

    async def _send(self, message: dict[str, Any], data: bytes) -> None:
        body = json.dumps(message).encode()
        try:
            await self._requests.send(len(body).to_bytes(LENGTH_BYTES, "big") + body)
            if data:
                await self._requests.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise _EndedError from error

    async def _receive(self) -> dict[str, Any]:
        try:
            length = await self._replies.receive_exactly(LENGTH_BYTES)
            body = await self._replies.receive_exactly(int.from_bytes(length, "big"))
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise _EndedError from error
        message: dict[str, Any] = json.loads(body)
        return message
