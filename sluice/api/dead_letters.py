"""What the HTTP API says of messages that were given up, as typed, immutable models."""

from pydantic import AliasChoices, Field

from sluice.api.base import Schema, Sent, Timestamp

__all__ = ["DeadLetter", "DeadLetterMessage"]


class DeadLetter(Schema):
    """A message that the system gave up on: where it was bound, and why it failed."""

    seq: int = Field(validation_alias=AliasChoices("seq", "sequence"))
    subject: str = ""
    reason: str = ""
    deliveries: int = 0
    failed_at: Sent[Timestamp] = None
    traceback: str = ""
    payload_bytes: int = 0
    job: str = ""


class DeadLetterMessage(DeadLetter):
    """A dead letter with the beginning of its message as text, which is null where the key does not allow it."""

    payload: str | None = None
