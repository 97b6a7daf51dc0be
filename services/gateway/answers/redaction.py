"""What is taken out of texts before they are kept."""

import re
from collections.abc import Callable
from typing import Any, Final

from sluice.api.feedback import KeptAnswer

__all__ = ["Redactor", "contacts", "redact"]

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


def redact(answer: KeptAnswer, redactor: Redactor) -> KeptAnswer:
    """The answer with the question, the turns, the answer's text and the sources redacted; names of documents too.

    What was searched for and the sentences that were judged repeat those texts: they are left out, and so is what
    other tools were called with.
    """
    members: dict[str, Any] = {
        "question": redactor(answer.question),
        "answer": redactor(answer.answer),
        "messages": tuple(
            {"role": message.get("role"), "content": redactor(str(message.get("content") or ""))}
            for message in answer.messages
        ),
        "sources": tuple(
            source.model_copy(
                update={"text": redactor(source.text), "document": redactor(source.document), "metadata": {}}
            )
            for source in answer.sources
        ),
        "supported": (),
        "searched": None,
    }
    return answer.model_copy(update=members)
