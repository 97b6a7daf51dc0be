"""What is taken out of texts before they are kept."""

import re
from collections.abc import Callable
from typing import Any, Final

from sluice.api.feedback import KeptAnswer
from sluice.api.models import Source

__all__ = ["Redactor", "contacts", "redact", "redacted"]

Redactor = Callable[[str], str]
"""Returns a text without what must not be kept. It is called in a thread, and may raise: then nothing is kept."""

PATTERNS: Final = (
    ("email", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")),
    ("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("number", re.compile(r"(?<![\w.-])\+?\d(?:[ ().-]{0,2}\d){8,18}(?![\w-])")),
)


def contacts(text: str) -> str:
    """A redactor: e-mail addresses, bank accounts, and numbers of 9 to 19 digits (telephones, cards) by their kind."""
    for kind, pattern in PATTERNS:
        text = pattern.sub(f"[{kind}]", text)
    return text


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

    def without(text: str) -> str:
        return redacted(text, redactor)

    members: dict[str, Any] = {
        "question": without(answer.question),
        "answer": without(answer.answer),
        "messages": tuple(
            {"role": message.get("role"), "content": without(str(message.get("content") or ""))}
            for message in answer.messages
        ),
        "sources": tuple(_source(source, without) for source in answer.sources),
        "supported": (),
        "searched": None,
    }
    return answer.model_copy(update=members)


def _source(source: Source, without: Redactor) -> Source:
    copies = tuple(copy.model_copy(update={"document": without(copy.document)}) for copy in source.copies)
    update = {
        "text": without(source.text),
        "document": without(source.document),
        "copies": copies,
        "context": (),
        "metadata": {},
    }
    return source.model_copy(update=update)
