"""What the models of the empty pipeline say: the same for every contender. Only the standard library is imported."""

import hashlib
import json
from typing import Any

__all__ = ["ANSWER", "EMBEDDING", "PASSAGES", "QUESTION", "TOKENS", "event", "pieces"]

QUESTION = "How long does the warranty of the lamp in hall {} last, and who repairs it after that?"

PROSE = (
    "the warranty of each lamp begins with its first evening and lasts for two years unless the glass was opened by "
    "hand while the keeper was away then a repair is paid for by whoever asked for it and takes about nine days"
)


def _prose(seed: int, characters: int) -> str:
    """Words in an order that looks like text to whoever compresses or tokenizes it."""
    words = PROSE.split()
    text, number = "", 0
    while len(text) < characters:
        digest = hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=4).digest()
        text += words[int.from_bytes(digest) % len(words)] + " "
        number += 1
    return text[:characters].strip()


EMBEDDING: list[float] = [round(((n * 37) % 101) / 101 - 0.5, 6) for n in range(384)]
"""As many numbers as a small embedding model gives."""

PASSAGES: list[dict[str, Any]] = [
    {"document_id": f"d{n}", "document": f"manual-{n}.md", "position": n, "text": _prose(n, 700), "score": 1 / (n + 1)}
    for n in range(5)
]

TOKENS: list[str] = [f"{word} " for word in _prose(99, 3000).split()[:200]]
ANSWER = "".join(TOKENS)


def pieces(streamed: bool) -> list[str]:
    """How the model hands over the answer: token by token where it is streamed, else as one text."""
    return TOKENS if streamed else [ANSWER]


def event(name: str, data: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(data, separators=(",", ":")).encode())
