"""What is taken out of texts before they are kept."""

from collections.abc import Callable
from typing import Any

from shared.personal_data import without
from sluice.api.feedback import KeptAnswer
from sluice.api.queries import Source

__all__ = ["Redactor", "contacts", "redact", "redacted"]

Redactor = Callable[[str], str]
"""Returns a text without what must not be kept. It is called in a thread, and may raise: then nothing is kept."""


def contacts(text: str) -> str:
    """A redactor: e-mail addresses, bank accounts, and numbers of 9 to 19 digits (telephones, cards) by their kind."""
    return without(text)


def redacted(text: str, redactor: Redactor) -> str:
    """What the redactor makes of a text. Raises what it raises, and TypeError or ValueError where that is no text."""
    left: object = redactor(text)
    if not isinstance(left, str):
        raise TypeError(f"the redactor has returned {type(left).__name__}, and no text")
    left.encode()  # half of a surrogate pair could not be written
    return left


def redact(answer: KeptAnswer, redactor: Redactor) -> KeptAnswer:
    """The answer with the question, the turns, the answer's text and the sources redacted; names of documents too.

    What was searched for and the sentences that were judged repeat those texts: they are left out, and so is what
    other tools were called with.
    """

    def clean(text: str) -> str:
        return redacted(text, redactor)

    members: dict[str, Any] = {
        "question": clean(answer.question),
        "answer": clean(answer.answer),
        "messages": tuple(
            {"role": message.get("role"), "content": clean(str(message.get("content") or ""))}
            for message in answer.messages
        ),
        "sources": tuple(_source(source, clean) for source in answer.sources),
        "supported": (),
        "searched": None,
    }
    return answer.model_copy(update=members)


def _source(source: Source, clean: Redactor) -> Source:
    copies = tuple(copy.model_copy(update={"document": clean(copy.document)}) for copy in source.copies)
    update = {
        "text": clean(source.text),
        "document": clean(source.document),
        "copies": copies,
        "context": (),
        "metadata": {},
    }
    return source.model_copy(update=update)
