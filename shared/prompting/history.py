"""What came before the question: the application's instructions, and the turns between the user and the assistant."""

import json
from collections.abc import Sequence

from shared.contracts.envelope import Message

__all__ = ["exchanges", "full_text", "instructions"]


def instructions(messages: Sequence[Message]) -> str:
    """What all system and developer messages say, as one text."""
    said = (message.content or "" for message in messages if message.role in {"system", "developer"})
    return "\n\n".join(text.strip() for text in said if text.strip())


def exchanges(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """The turns, oldest first: each a message of the user and all that answered it, tool calls and results too.

    What the assistant said before the user's first message is an exchange of its own.
    """
    made: list[list[Message]] = []
    for message in messages:
        if message.role in {"system", "developer"}:
            continue
        if message.role == "user" or not made:
            made.append([])
        made[-1].append(message)
    return [tuple(exchange) for exchange in made]


def full_text(message: Message) -> str:
    """All of a message that a chat template may write: its content and, as JSON, its tool calls and the like."""
    extras = {name: value for name, value in (message.model_extra or {}).items() if value is not None}
    return f"{message.content or ''}{json.dumps(extras, ensure_ascii=False) if extras else ''}"
