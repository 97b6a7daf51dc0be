"""Spans of messages on the bus, by OpenTelemetry's conventions for messaging.

A message has a producer span where it is sent and a consumer span below that for each of its deliveries.
`messaging.destination.template`, which the spans' names use, is the part of the subject that takes few values.
In a trace that nobody records no spans are made, and its context is passed on as it came.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanKind

from shared.telemetry.tracing import tracer, unrecorded

__all__ = ["CONVERSATION", "DELIVERY", "TENANT", "processing", "sending"]

CONVERSATION: Final = "messaging.message.conversation_id"
"""The attribute that holds the id of a query or of a job."""

TENANT: Final = "sluice.tenant"
DELIVERY: Final = "sluice.delivery"
"""Which delivery of the message this is: 2 and above are redeliveries."""

SYSTEM: Final = "nats"

Attributes = Mapping[str, str | int | float]
NONE: Final[Attributes] = MappingProxyType({})


def sending(
    template: str, *, subject: str, message_id: str, conversation: str, tenant: str, attributes: Attributes = NONE
) -> AbstractContextManager[Span]:
    """The span in which a message is sent; what is injected into headers within is the parent of its deliveries."""
    if unrecorded():
        return nullcontext(trace.get_current_span())
    members: dict[str, str | int | float] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": subject,
        "messaging.destination.template": template,
        "messaging.message.id": message_id,
        CONVERSATION: conversation,
        TENANT: tenant,
        **attributes,
    }
    return tracer.start_as_current_span(f"send {template}", kind=SpanKind.PRODUCER, attributes=members)


def processing(
    template: str, *, subject: str, consumer: str, context: Context, deliveries: int, attributes: Attributes = NONE
) -> AbstractContextManager[Span]:
    """The span of one delivery of a message, below the span that sent it."""
    if unrecorded(context):
        return _within(context)
    members: dict[str, str | int | float] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": subject,
        "messaging.destination.template": template,
        "messaging.consumer.group.name": consumer,
        TENANT: subject.rpartition(".")[2],
        DELIVERY: deliveries,
        **attributes,
    }
    return tracer.start_as_current_span(
        f"process {template}", context=context, kind=SpanKind.CONSUMER, attributes=members
    )


@contextmanager
def _within(context: Context) -> Iterator[Span]:
    token = attach(context)
    try:
        yield trace.get_current_span(context)
    finally:
        detach(token)
