"""The results of a batch so far: on disk until the end, with only their positions in memory.

A result is one line in the format of OpenAI's output and error files.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedRandom
from tempfile import TemporaryFile
from typing import Any, Final

from pydantic_core import from_json, to_json

from services.scheduler.clients.requests import Reply
from shared.contracts.problems import Problem, ProblemDetails, ProblemType

__all__ = ["Result", "Results", "failed_result", "problem_of", "replied_result"]

PART_LINES: Final = 100
PART_BYTES: Final = 4 * 2**20

FIRST_INTERVAL: Final = 5.0
LONGEST_INTERVAL: Final = 60.0
"""Seconds that a result waits at most for its part: more, the more parts there are, so that the list stays short."""

INTERNAL: Final = ProblemDetails(type="about:blank", title="The request failed", status=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the output; `failed` ones go to the error file."""

    custom_id: str
    line: bytes
    failed: bool

    @classmethod
    def read(cls, line: bytes) -> "Result":
        value: dict[str, Any] = from_json(line)
        response = value["response"]
        failed = response is None or response["status_code"] >= 400
        return cls(custom_id=value["custom_id"], line=line, failed=failed)


def replied_result(job: str, custom_id: str, reply: Reply) -> Result:
    """The result of a request that was answered, with whatever status."""
    body = reply.body
    if b"\n" in body:
        body = to_json(from_json(body))
    head = to_json({"id": _result_id(job, custom_id), "custom_id": custom_id})[:-1]
    response = to_json({"status_code": reply.status, "request_id": reply.request_id})[:-1]
    line = b'%b,"response":%b,"body":%b},"error":null}' % (head, response, body)
    return Result(custom_id=custom_id, line=line, failed=reply.status >= 400)


def failed_result(job: str, custom_id: str, code: str, message: str) -> Result:
    """The result of a request that nobody answered."""
    error = {"code": code, "message": message}
    record = {"id": _result_id(job, custom_id), "custom_id": custom_id, "response": None, "error": error}
    return Result(custom_id=custom_id, line=to_json(record), failed=True)


def problem_of(result: Result) -> Problem:
    """Why a request failed."""
    value: dict[str, Any] = from_json(result.line)
    if value["response"] is None:
        code, message = value["error"]["code"], value["error"]["message"]
        kind = next((kind for kind in ProblemType if kind.code == code), ProblemType.INTERNAL)
        return Problem(kind, message)
    body = value["response"]["body"]
    error = body.get("error", {})
    # In OpenAI's form the problem itself is a member of the error.
    details = error.get("sluice", body) if isinstance(error, dict) else body
    return Problem.from_details(ProblemDetails.model_validate(INTERNAL.model_dump() | details))


class Results:
    """Each custom_id has one result: the first. Files are read and written where they are; the disk is the bound."""

    def __init__(self) -> None:
        self._spool: BufferedRandom = TemporaryFile()  # noqa: SIM115  (closed with the results)
        self._places: dict[str, tuple[int, int, bool]] = {}
        self._end = 0
        self._saved_to = 0
        self._saved_lines = 0
        self._oldest = 0.0
        self.failed = 0

    @property
    def completed(self) -> int:
        return len(self._places) - self.failed

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, result: Result) -> bool:
        """Returns whether it is the first for its custom_id."""
        if result.custom_id in self._places:
            return False
        if self._end == self._saved_to:
            self._oldest = time.monotonic()
        self._spool.seek(self._end)
        self._spool.write(result.line + b"\n")
        self._places[result.custom_id] = (self._end, len(result.line) + 1, result.failed)
        self._end += len(result.line) + 1
        self.failed += result.failed
        return True

    def due(self, parts: int) -> bool:
        """Whether it is time to save what has come in since the last of so many parts."""
        waiting = len(self._places) - self._saved_lines
        if waiting >= PART_LINES or self._end - self._saved_to >= PART_BYTES:
            return True
        interval = min(LONGEST_INTERVAL, FIRST_INTERVAL * (1 + parts / 20))
        return waiting > 0 and time.monotonic() - self._oldest >= interval

    def unsaved(self) -> bytes:
        """What has come in since the last part, as JSONL; call `saved` with its length once it is kept."""
        self._spool.seek(self._saved_to)
        return self._spool.read(self._end - self._saved_to)

    def saved(self, part: bytes) -> None:
        """These bytes, which come next in order, are kept."""
        self._saved_to += len(part)
        self._saved_lines += part.count(b"\n")
        self._oldest = time.monotonic()

    def write(self, order: Iterable[str], output: BufferedRandom, errors: BufferedRandom) -> None:
        """Write the results of these custom_ids to the two files, in this order."""
        for custom_id in order:
            if place := self._places.get(custom_id):
                start, length, failed = place
                self._spool.seek(start)
                (errors if failed else output).write(self._spool.read(length))

    def close(self) -> None:
        self._spool.close()


def _result_id(job: str, custom_id: str) -> str:
    return f"batch_req_{sha256(f'{job}/{custom_id}'.encode()).hexdigest()[:24]}"
