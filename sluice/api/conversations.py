"""What the HTTP API says of the console's conversations, as typed, immutable models."""

from pydantic import JsonValue

from sluice.api.base import Schema, Sent, Timestamp

__all__ = ["Conversation", "ConversationList", "ConversationSummary"]


class ConversationSummary(Schema):
    """One conversation in a list."""

    id: str
    title: str = ""
    collection: str = ""
    pipeline: str = ""
    changed_at: Sent[Timestamp] = None


class ConversationList(Schema):
    """The caller's conversations, the last changed first."""

    conversations: tuple[ConversationSummary, ...] = ()


class Conversation(Schema):
    """A conversation as the console wrote it; only the console knows what is in an exchange."""

    title: str = ""
    collection: str = ""
    pipeline: str = ""
    exchanges: tuple[dict[str, JsonValue], ...] = ()
