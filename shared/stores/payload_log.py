"""The stream PAYLOADS: requests and responses of models that are logged, on `payload.<tenant>.<model>.<kind>`."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Final

from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from shared.contracts.payloads import InferencePayload, PayloadKind
from shared.nats.client import end_reading
from shared.nats.kv import Stored
from shared.nats.paging import last_messages
from shared.nats.subjects import PAYLOADS, payload_subject

__all__ = ["PayloadLog"]

ANY: Final = "*"
PORTION: Final = 100
SILENCE: Final = 10.0
"""Seconds for the broker to deliver what it has."""


class PayloadLog:
    """The payloads of all tenants. Methods raise nats errors, and TimeoutError if the broker falls silent."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream

    async def write(self, payload: InferencePayload) -> None:
        """The same payload twice within two minutes is stored once."""
        headers = {**payload.headers(), "Nats-Msg-Id": f"{payload.id}.{payload.kind}"}
        subject = payload_subject(payload.tenant, payload.model, payload.kind)
        await self._js.publish(subject, payload.data, headers=headers, stream=PAYLOADS)

    async def newest(
        self, tenant: str, model: str | None, kind: PayloadKind | None, limit: int, before: int | None
    ) -> Sequence[Stored[InferencePayload]]:
        """The last written first: of one model and kind, or of all."""
        subject = payload_subject(tenant, model or ANY, kind or ANY)
        found = await last_messages(self._js, PAYLOADS, subject, limit, wanted=_is_payload, before=before)
        return _stored(found)

    async def of_reader(self, tenant: str, reader: str) -> AsyncGenerator[Stored[InferencePayload], None]:
        """What one reader has sent and got, the oldest first. Reads all of the tenant's."""
        async with aclosing(self._all(tenant, attributes_only=False)) as payloads:
            async for stored in payloads:
                if reader in (stored.record.reader, stored.record.key):
                    yield stored

    async def erase(self, tenant: str, reader: str) -> int:
        """Remove what one reader has sent and got. Returns how much it was."""
        erased = 0
        async with aclosing(self._all(tenant, attributes_only=True)) as payloads:
            async for stored in payloads:
                if reader in (stored.record.reader, stored.record.key):
                    with suppress(NotFoundError):  # it is too old by now
                        await self._js.delete_msg(PAYLOADS, stored.revision)
                        erased += 1
        return erased

    async def follow(self, first: int) -> AsyncGenerator[Sequence[Stored[InferencePayload]], None]:
        """The payloads of all tenants from the number `first` on, a portion at a time, and those that come; it never
        ends by itself."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=6 * SILENCE,
            mem_storage=True,
            num_replicas=1,
        )
        subject = payload_subject(ANY, ANY, ANY)
        reader = await self._js.pull_subscribe(subject, stream=PAYLOADS, config=config)
        try:
            while True:
                try:
                    portion = await reader.fetch(PORTION, timeout=SILENCE)
                except NatsTimeout:
                    await reader.consumer_info()  # it raises where the consumer was lost
                    continue
                if found := _stored(portion):
                    yield found
        finally:
            await end_reading(reader)

    async def _all(self, tenant: str, *, attributes_only: bool) -> AsyncGenerator[Stored[InferencePayload], None]:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.NONE,
            headers_only=attributes_only,
            inactive_threshold=6 * SILENCE,
            mem_storage=True,
            num_replicas=1,
        )
        subject = payload_subject(tenant, ANY, ANY)
        reader = await self._js.pull_subscribe(subject, stream=PAYLOADS, config=config)
        try:
            left = (await reader.consumer_info()).num_pending or 0
            while left:
                try:
                    portion = await reader.fetch(min(left, PORTION), timeout=SILENCE)
                except NatsTimeout:
                    raise TimeoutError("the broker did not send the payloads") from None
                for message in portion:
                    left = message.metadata.num_pending
                for stored in _stored(portion):
                    yield stored
        finally:
            await end_reading(reader)


def _stored(messages: Iterable[Msg]) -> list[Stored[InferencePayload]]:
    """Those that are payloads."""
    read = ((_read(message), message.metadata.sequence.stream) for message in messages)
    return [Stored(payload, number) for payload, number in read if payload is not None]


def _is_payload(message: Msg) -> bool:
    return _read(message) is not None


def _read(message: Msg) -> InferencePayload | None:
    try:
        return InferencePayload.read(message.headers or {}, message.data)
    except (KeyError, ValueError):
        return None
