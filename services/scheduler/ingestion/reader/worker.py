"""The process that reads documents, one after another.

It runs as `python -m services.scheduler.ingestion.reader.worker <options>`.

It speaks over its standard streams. A frame is a four-byte big-endian length and that many bytes of JSON. It
sends a frame {"ready": method} or {"failed": reason}; then, for each request frame {name, media_type, path,
size, chunking} followed by `size` bytes of the document (none if `path` is given), frames {"chunks": [[text,
page, heading, section], …]} and at last {"done": {media_type, metadata, warnings}, "retire": …} or {"problem": {…},
"retire": …}.

JSON, not pickle: what a hostile document has taken over must not be able to run code in the service.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import pkgutil
import resource
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from services.scheduler.ingestion.chunking.chunker import Chunk, Chunker, Chunking
from services.scheduler.ingestion.parsing import BUILT_IN, PARSING_VERSION, Format, Formats
from shared.contracts.problems import Problem

__all__ = ["EXIT_MEMORY", "LENGTH_BYTES", "WorkerOptions", "main"]

EXIT_MEMORY = 77
"""The exit status of a worker that ran out of the memory it may use."""
LENGTH_BYTES = 4

_CHUNKS_PER_FRAME = 512
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The arguments of a worker, as JSON on its command line."""

    parent: int
    tokenizer: str | None
    memory_bytes: int
    documents: int
    formats: tuple[str, ...] = ()


def main(argument: str) -> None:
    """Serve until the standard input ends or the worker is due to be replaced."""
    options = WorkerOptions(**json.loads(argument))
    _depend_on(options.parent)
    requests, replies = _take_streams()
    logging.disable(logging.CRITICAL)  # the libraries warn about every flaw of every document
    warnings.simplefilter("ignore")
    try:
        reader = _Reader(options)
    except Exception as error:  # noqa: BLE001  (whatever it is, the service gets it as a problem and does not wait)
        _send(replies, {"failed": f"{type(error).__name__}: {error}"})
        return
    _send(replies, {"ready": reader.method})
    try:
        while request := _receive(requests):
            for reply in reader.replies(request, requests):
                _send(replies, reply)
    except MemoryError:
        os._exit(EXIT_MEMORY)  # at once: unwinding needs memory too


class _Reader:
    """Parses and chunks, and knows when this process has served long enough."""

    def __init__(self, options: WorkerOptions) -> None:
        extra = [form for name in options.formats for form in _formats(name)]
        self._formats = Formats((*BUILT_IN, *extra))
        self._chunker = Chunker(Path(options.tokenizer) if options.tokenizer else None)
        self._left = options.documents
        self._memory_bytes = options.memory_bytes
        self._most_bytes = _data_bytes() + options.memory_bytes // 2
        parsers = ",".join(options.formats)
        self.method = f"parsing={PARSING_VERSION};formats={parsers};{self._chunker.method}"

    def replies(self, request: dict[str, Any], stream: BinaryIO) -> Iterator[dict[str, Any]]:
        """All frames that answer one request. Memory is limited relative to what is in use now."""
        _limit_memory(_data_bytes() + self._memory_bytes)
        self._left -= 1
        try:
            path = request["path"]
            data = Path(path).read_bytes() if path else stream.read(request["size"])
            document = self._formats.parse(request["name"], data, request["media_type"])
            del data
            chunker = self._chunker.resized(Chunking(**request["chunking"]))
            for chunks in _batches(chunker.chunk(document.sections), _CHUNKS_PER_FRAME):
                yield {"chunks": [(chunk.text, chunk.page, chunk.heading, chunk.section) for chunk in chunks]}
            told = [(warning.kind, warning.detail) for warning in document.warnings]
            about = {"media_type": document.media_type, "metadata": dict(document.metadata), "warnings": told}
            del document
            yield {"done": about, "retire": self._is_due()}
        except Problem as problem:
            yield {"problem": problem.details.model_dump(), "retire": self._is_due()}

    def _is_due(self) -> bool:
        return self._left <= 0 or _data_bytes() > self._most_bytes


def _formats(name: str) -> Iterable[Format]:
    """The formats at "module:attribute": one Format or several."""
    found = pkgutil.resolve_name(name)
    return (found,) if isinstance(found, Format) else found


def _batches(chunks: Iterator[Chunk], size: int) -> Iterator[list[Chunk]]:
    while batch := list(islice(chunks, size)):
        yield batch


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the service. What libraries print goes to standard error, and nothing reads the input."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _send(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode()
    stream.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    stream.flush()


def _receive(stream: BinaryIO) -> dict[str, Any] | None:
    """The next request; None at the end of the stream."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    message: dict[str, Any] = json.loads(stream.read(int.from_bytes(length, "big")))
    return message


def _depend_on(parent: int) -> None:
    """Die with the service, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this process asked for the signal
        os._exit(1)


def _data_bytes() -> int:
    """The private memory of this process that RLIMIT_DATA counts; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData")), 0)


def _limit_memory(limit_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))


if __name__ == "__main__":
    main(sys.argv[1])
