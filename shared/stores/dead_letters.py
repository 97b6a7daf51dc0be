"""Dead letters: work that failed for good, kept with its reason until somebody replays or forgets it.

A dead letter is stored on `dead.<original subject>` with its original payload; headers say what went wrong. A payload
so near to the broker's limit that the headers do not fit beside it is cut: no stage makes such, see `forward`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.contracts.envelope import Query
from shared.contracts.graphs import Join, control_of
from shared.contracts.problems import Problem, ProblemType
from shared.nats.errors import QUEUE_FULL
from shared.nats.subjects import DEAD_LETTERS
from shared.telemetry.metrics import DEAD_LETTERS as BURIED

__all__ = ["HEADERS", "REPLAYED", "DeadLetter", "DeadLetters"]

HEADERS: Final = 16 * 1024
"""Bytes of a message kept free for headers, also for those that a dead letter adds."""

REASON = "Sluice-Reason"
DELIVERIES = "Sluice-Deliveries"
TRACEBACK = "Sluice-Traceback"
FAILED_AT = "Sluice-Failed-At"
REPLAYED = "Sluice-Replayed"
"""Header of work that was a dead letter: the letter's number."""

REASON_BYTES = 2000
TRACEBACK_BYTES = 8000
KEPT_BYTES = 4000
"""Bounds of what the headers take, together well below `HEADERS`."""


class DeadLetter(BaseModel):
    """One dead letter as a person sees it."""

    model_config = ConfigDict(frozen=True)

    sequence: int
    subject: str
    reason: str
    deliveries: int
    failed_at: float
    traceback: str = ""
    payload_bytes: int
    job: str = ""
    """The id of a job, empty for other work."""


class DeadLetters:
    """The DEAD_LETTERS stream."""

    def __init__(self, client: Client, jetstream: JetStreamContext) -> None:
        self._client = client
        self._js = jetstream

    async def bury(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str],
        *,
        reason: str,
        deliveries: int,
        message_id: str,
        traceback: str = "",
    ) -> None:
        """Store a dead letter; the same `message_id` twice is stored once. Raises nats errors."""
        kept = {k: v for k, v in headers.items() if not k.startswith("Nats-")}
        if sum(len(k) + len(v.encode()) for k, v in kept.items()) > KEPT_BYTES:
            kept.clear()
        kept |= {
            REASON: _header(reason, REASON_BYTES),
            TRACEBACK: _header(traceback, TRACEBACK_BYTES, end=True),
            DELIVERIES: str(deliveries),
            FAILED_AT: str(time.time()),
            "Nats-Msg-Id": f"dead:{message_id}",
        }
        # The broker counts the headers too, and cuts the connection of a client that goes beyond its limit.
        data = data[: self._client.max_payload - HEADERS]
        stored = await self._js.publish(f"dead.{subject}", data, headers=kept, stream=DEAD_LETTERS)
        if not stored.duplicate:
            BURIED.labels(subject.partition(".")[0]).inc()

    async def count(self) -> int:
        return (await self._js.stream_info(DEAD_LETTERS)).state.messages

    async def list(self, limit: int = 100, *, after: int | None = None) -> list[DeadLetter]:
        """The newest dead letters, newest first: of all, or of those before the one with the number `after`."""
        state = (await self._js.stream_info(DEAD_LETTERS)).state
        letters: list[DeadLetter] = []
        sequence = state.last_seq if after is None else min(state.last_seq, after - 1)
        while len(letters) < min(limit, state.messages) and sequence >= max(1, state.first_seq):
            # One that was replayed is gone from the middle.
            with suppress(NotFoundError):
                letters.append(_letter(await self._js.get_msg(DEAD_LETTERS, sequence)))
            sequence -= 1
        return letters

    async def of_job(self, kind: str, tenant: str, job: str) -> Sequence[int]:
        """The numbers of a job's dead letters."""
        found: list[int] = []
        sequence, subject = 1, f"dead.job.{kind}.*.{tenant}"
        while True:
            try:
                message = await self._js.get_msg(DEAD_LETTERS, sequence, subject=subject, next=True)
            except NotFoundError:
                return found
            if _letter(message).job == job:
                found.append(message.seq or 0)
            sequence = (message.seq or sequence) + 1

    async def get(self, sequence: int) -> tuple[DeadLetter, bytes]:
        """A dead letter and its payload. Raises Problem NOT_FOUND."""
        message = await self._get(sequence)
        return _letter(message), message.data or b""

    async def replay(self, sequence: int, *, reply: str | None = None) -> str:
        """Put the work back on its queue, then forget the dead letter. Returns the subject that it went to.

        A query gets a fresh deadline of its original length and, if given, another reply subject.
        Raises Problem NOT_FOUND when there is no such dead letter, INVALID_REQUEST when it holds no work that could be
        replayed, and QUEUE_FULL; the dead letter then stays.
        """
        message = await self._get(sequence)
        subject = (message.subject or "").removeprefix("dead.")
        data = message.data or b""
        headers = {k: v for k, v in (message.headers or {}).items() if not k.startswith(("Sluice-", "Nats-"))}
        headers |= {"Nats-Msg-Id": f"replay:{sequence}", REPLAYED: str(sequence)}
        if subject.startswith("query."):
            data = _renewed(data, reply).encode()
        try:
            await self._js.publish(subject, data, headers=headers)
        except APIError as error:
            if error.err_code not in QUEUE_FULL:
                raise
            detail = "The queue of this dead letter is full. Replay it again after a moment."
            raise Problem(ProblemType.QUEUE_FULL, detail, headers={"Retry-After": "1"}) from None
        await self.forget(sequence)
        return subject

    async def query(self, sequence: int, reply_to: Callable[[str], str]) -> Query | None:
        """The query of a dead letter, renewed for another attempt, to be submitted by the caller, who reads its answer
        on `reply_to(query id)`; None where the dead letter is no query. Raises as `replay` does.
        """
        message = await self._get(sequence)
        if not (message.subject or "").startswith("dead.query."):
            return None
        query = _renewed(message.data or b"", None)
        return query.model_copy(update={"reply": reply_to(query.id)})

    async def forget(self, sequence: int) -> None:
        """Remove a dead letter; one that is not there is no error."""
        with suppress(NotFoundError):
            await self._js.delete_msg(DEAD_LETTERS, sequence)

    async def _get(self, sequence: int) -> RawStreamMsg:
        try:
            return await self._js.get_msg(DEAD_LETTERS, sequence)
        except NotFoundError:
            raise Problem(ProblemType.NOT_FOUND, f"There is no dead letter {sequence}.") from None


def _renewed(data: bytes, reply: str | None) -> Query:
    try:
        query = Query.decode(data)
    except ValidationError:
        raise Problem(ProblemType.INVALID_REQUEST, "This dead letter is no query: it cannot be replayed.") from None
    now = time.time()
    # The other branches of an ensemble are over: what comes back is that of this one.
    alone = tuple(stop for stop in query.slip if not isinstance(control_of(stop), Join))
    return query.resubmitted().model_copy(
        update={
            "slip": alone,
            "branch": "",
            "asked_at": now,
            "deadline": now + (query.deadline - query.asked_at),
            "reply": reply or query.reply,
        }
    )


def _header(text: str, limit: int, *, end: bool = False) -> str:
    """A text as a JSON string, as a header ends at a line break; beyond `limit` bytes only its beginning or end."""
    encoded = json.dumps(text)
    if len(encoded) <= limit:
        return encoded
    longest = limit // 12  # what one character may take at most
    return json.dumps(text[-longest:] if end else text[:longest])


def _letter(message: RawStreamMsg) -> DeadLetter:
    headers = message.headers or {}
    return DeadLetter(
        sequence=message.seq or 0,
        subject=(message.subject or "").removeprefix("dead."),
        reason=json.loads(headers.get(REASON, '""')),
        traceback=json.loads(headers.get(TRACEBACK, '""')),
        deliveries=int(headers.get(DELIVERIES, "0")),
        failed_at=float(headers.get(FAILED_AT, "0")),
        payload_bytes=len(message.data or b""),
        job=headers.get("ce-id", "") if (message.subject or "").startswith("dead.job.") else "",
    )
