"""What a command prints: kept as an artifact, shown as progress, and read for outputs."""

import json
import math
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import IO, Final, Self

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from services.scheduler.jobs.job_context import JobContext
from shared.contracts.problems import Problem, ProblemType

__all__ = ["CommandLog", "Lines"]

OUTPUT: Final = "::output::"
PROGRESS: Final = "::progress::"
METRICS: Final = "::metrics::"

MESSAGE: Final = 300
"""Characters of a line that are shown as progress."""

LAST_LINES: Final = 20
DETAIL: Final = 2000
"""Lines, and characters, that say in a problem how a command ended."""

LONGEST_LINE: Final = 64 * 1024
MOST_OUTPUTS: Final = 64 * 1024
"""Bytes of a line before it is broken, and of all outputs as JSON: they are part of the job's entry."""

_outputs: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


class _Metrics(BaseModel):
    step: int
    values: dict[str, float | None]


class Lines:
    """Cuts a stream of bytes into lines, which come without their end. Very long ones are broken."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[str]:
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in lines:
            yield from _pieces(line)
        if len(self._rest) >= LONGEST_LINE:
            yield from self.end()

    def end(self) -> Iterator[str]:
        """What is left when the stream ends without an end of line."""
        rest, self._rest = self._rest, bytearray()
        if rest:
            yield from _pieces(rest)


def _pieces(line: bytearray) -> Iterator[str]:
    for start in range(0, max(len(line), 1), LONGEST_LINE):
        yield line[start : start + LONGEST_LINE].decode(errors="replace").rstrip("\r")


class CommandLog:
    """The log of one try at a command; a context manager. At least the last `most_bytes` of it are kept, on disk.

    A line `::output:: {...}` adds to `outputs`, a later one over an earlier; `::progress:: 3/10` sets the job's
    progress, which counts no Pods from then on; `::metrics:: {"step": 3, "values": {...}}` logs metrics. What follows
    the beginnings that `lines` names goes to its functions. Any other line is the job's message until the next.
    """

    def __init__(
        self, context: JobContext, most_bytes: int, lines: Mapping[str, Callable[[str], None]] | None = None
    ) -> None:
        self._lines = {OUTPUT: self._add_outputs, PROGRESS: self._show, METRICS: self._log_metrics, **(lines or {})}
        self.outputs: dict[str, JsonValue] = {}
        self._context = context
        self._kept = _Kept(most_bytes)
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._last_errors: deque[str] = deque(maxlen=LAST_LINES)
        self._counts_itself = False

    def line(self, line: str, *, error: bool = False, index: int | None = None) -> None:
        """One line that the command printed, to standard error if `error`; `index` is of one among several Pods."""
        self._kept.write(line if index is None else f"[{index}] {line}")
        for beginning, take in self._lines.items():
            if line.startswith(beginning):
                take(line.removeprefix(beginning))
                return
        if line.strip():
            (self._last_errors if error else self._last).append(line)
            self._context.progress(message=line.strip()[:MESSAGE])

    def note(self, text: str) -> None:
        """Something that Sluice itself has to say of the command."""
        self._kept.write(f"sluice: {text}")
        self._context.progress(message=text[:MESSAGE])

    def pods(self, done: int, total: int) -> None:
        """So many of the command's Pods have ended well: its progress, unless it tells its own."""
        if not self._counts_itself:
            self._context.progress(done=done, total=total)

    @property
    def last_words(self) -> str:
        """The last lines of standard error, or of standard output where there are none."""
        return "\n".join(self._last_errors or self._last)[-DETAIL:]

    def read(self) -> bytes:
        return self._kept.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.close()

    def _add_outputs(self, text: str) -> None:
        try:
            found = _outputs.validate_json(text)
        except ValidationError:
            self._complain(OUTPUT, f"This is no JSON object: {text.strip()[:MESSAGE]}")
            return
        together = self.outputs | found
        if len(json.dumps(together)) > MOST_OUTPUTS:
            self._complain(OUTPUT, f"The outputs of a job take at most {MOST_OUTPUTS // 1024} kB as JSON.")
            return
        self.outputs = together

    def _log_metrics(self, text: str) -> None:
        try:
            found = _Metrics.model_validate_json(text)
            values = {name: math.nan if value is None else value for name, value in found.values.items()}
            self._context.log_metrics(found.step, values)
        except ValueError as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            self._complain(METRICS, f"These are no metrics: {text.strip()[:MESSAGE]}: {reason}")

    def _complain(self, line: str, detail: str) -> None:
        self._context.fail_item(line, Problem(ProblemType.INVALID_REQUEST, detail))

    def _show(self, text: str) -> None:
        done, _, total = text.partition("/")
        try:
            counts = {"done": max(0, int(done)), "total": max(0, int(total))}
        except ValueError:
            self._context.progress(message=text.strip()[:MESSAGE])
        else:
            self._counts_itself = True
            self._context.progress(**counts)


class _Kept:
    """The end of a text, in two files: when the newer one is full it takes the place of the older. The files have no
    names, so that nothing of them stays however the process ends."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._old, self._new = _file(), _file()
        self._size = 0

    def write(self, line: str) -> None:
        data = line.encode(errors="replace") + b"\n"
        if self._size + len(data) > self._most:
            self._old.close()
            self._old, self._new = self._new, _file()
            self._size = 0
        self._size += self._new.write(data)

    def read(self) -> bytes:
        whole = b"".join(_contents(file) for file in (self._old, self._new))
        if len(whole) <= self._most:
            return whole
        return whole[whole.index(b"\n", len(whole) - self._most - 1) + 1 :]

    def close(self) -> None:
        self._old.close()
        self._new.close()


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="sluice-log-")


def _contents(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
