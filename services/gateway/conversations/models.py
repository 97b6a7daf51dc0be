"""Conversations as they are kept, and as the HTTP API takes them."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = ["LARGEST", "MOST", "ConversationList", "StoredConversation", "Summary"]

MOST: Final = 200
"""Conversations of one owner."""

LARGEST: Final = 512 * 1024
"""Bytes of one conversation."""

MOST_EXCHANGES: Final = 500


class StoredConversation(BaseModel):
    """What the console writes. The server reads nothing of the exchanges: questions and answers as the console has
    them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, Field(max_length=200)] = ""
    collection: Annotated[str, Field(max_length=200)] = ""
    pipeline: Annotated[str, Field(max_length=200)] = ""
    exchanges: Annotated[tuple[dict[str, JsonValue], ...], Field(max_length=MOST_EXCHANGES)] = ()


class Summary(BaseModel):
    """One conversation in its owner's list."""

    model_config = ConfigDict(frozen=True)

    id: str
    title: str = ""
    collection: str = ""
    pipeline: str = ""
    changed_at: float


class ConversationList(BaseModel):
    """An owner's conversations, the last changed first."""

    model_config = ConfigDict(frozen=True)

    conversations: tuple[Summary, ...] = ()
