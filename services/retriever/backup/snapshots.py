"""Snapshots of streams by JetStream's own API, which nats-py does not have: `$JS.API.STREAM.SNAPSHOT` and `RESTORE`.

A snapshot keeps numbers, times and headers of all messages. Records refer to these numbers, and the age of what they
hold depends on these times, so reading the messages and publishing them again would not do.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from services.retriever.backup.errors import BackupError

__all__ = ["StreamSnapshot", "open_snapshot", "restore_stream"]

API: Final = "$JS.API.STREAM"
CHUNK: Final = 128 * 1024
"""Bytes of one message of a snapshot."""

SILENCE: Final = 30.0
"""Seconds in which the broker has to answer, and to send the next piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSnapshot:
    """A snapshot that has begun. `config` and `state` are as the broker writes them; `pieces` can be read once."""

    config: Mapping[str, Any]
    state: Mapping[str, Any]
    pieces: AsyncIterator[bytes]


@asynccontextmanager
async def open_snapshot(client: Client, stream: str) -> AsyncGenerator[StreamSnapshot, None]:
    """Begin the snapshot of a stream, without its consumers. Raises BackupError."""
    inbox = client.new_inbox()
    pieces = await client.subscribe(inbox, pending_bytes_limit=-1, pending_msgs_limit=-1)
    try:
        wanted = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK}
        answer = await _ask(client, f"{API}.SNAPSHOT.{stream}", wanted, f"cannot back up the stream {stream}")

        async def received() -> AsyncIterator[bytes]:
            while True:
                try:
                    message = await pieces.next_msg(timeout=SILENCE)
                except (NatsError, TimeoutError) as error:
                    raise BackupError(f"the broker broke off the snapshot of the stream {stream}: {error!r}") from None
                if not message.data:
                    headers = message.headers or {}
                    if headers.get("Status", "204") not in ("204", "200"):
                        reason = f"{headers['Status']} {headers.get('Description', '')}".strip()
                        raise BackupError(f"the broker broke off the snapshot of the stream {stream}: {reason}")
                    return
                if message.reply:
                    await client.publish(message.reply, b"")
                yield message.data

        yield StreamSnapshot(config=answer["config"], state=answer["state"], pieces=received())
    finally:
        await pieces.unsubscribe()


async def restore_stream(
    client: Client, stream: str, config: Mapping[str, Any], pieces: AsyncIterable[bytes]
) -> Mapping[str, Any]:
    """Make a stream from the pieces of its snapshot. Returns its state. Raises BackupError; the stream is then not
    there. One of its name must not be there before."""
    failure = f"cannot restore the stream {stream}"
    begun = await _ask(client, f"{API}.RESTORE.{stream}", {"config": dict(config)}, failure)
    target = begun["deliver_subject"]
    async for piece in pieces:
        for start in range(0, len(piece), CHUNK):
            answer = await _request(client, target, piece[start : start + CHUNK], failure)
            if answer:
                _checked(answer, failure)
    made = _checked(await _request(client, target, b"", failure), failure)
    state: Mapping[str, Any] = made["state"]
    return state


async def _ask(client: Client, subject: str, body: Mapping[str, Any], failure: str) -> Mapping[str, Any]:
    return _checked(await _request(client, subject, json.dumps(body).encode(), failure), failure)


async def _request(client: Client, subject: str, data: bytes, failure: str) -> bytes:
    try:
        return (await client.request(subject, data, timeout=SILENCE)).data
    except (NatsError, TimeoutError, OSError) as error:
        raise BackupError(f"{failure}: the broker does not answer ({error!r})") from None


def _checked(data: bytes, failure: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = json.loads(data)
    if error := answer.get("error"):
        raise BackupError(f"{failure}: {error.get('description')}")
    return answer
