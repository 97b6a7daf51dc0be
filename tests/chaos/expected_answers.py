"""What the constant stages say to a question, so that an answer shows whose it is and what it was made from.

Every passage carries the tenant, the question and the question's embedding, and the answer quotes a passage: whatever
is mixed up between two queries or two tenants, in whichever stage, is no longer the expected text.
"""

from hashlib import blake2b
from typing import Final

__all__ = [
    "DIE",
    "FAIL",
    "LONG",
    "PASSAGES",
    "POISON_JOB",
    "SLOW",
    "answer_to",
    "embedding_of",
    "passages_for",
    "pieces_of",
]

PASSAGES: Final = 5
PIECE: Final = 100
LONG_PIECE: Final = 2000
"""Characters of an answer in one delta, and of a long answer."""

SLOW, LONG, FAIL, DIE = "slow", "long", "fail", "die"
"""First words of questions: answered slowly, at length, not at all (an exception), and with the worker's death."""

POISON_JOB: Final = "poison"
"""The document of a job that fails at every try."""

LONG_PIECES: Final = 4000
"""So long an answer fits into no buffer of the system on its way to a client."""


def embedding_of(tenant: str, question: str) -> bytes:
    """Two float32."""
    return blake2b(f"{tenant}\0{question}".encode(), digest_size=8).digest()


def passages_for(tenant: str, question: str, embedding: bytes) -> list[str]:
    return [f"passage {n} of {tenant} on <{question}> near {embedding.hex()}" for n in range(1, PASSAGES + 1)]


def answer_to(tenant: str, question: str, passages: list[str]) -> str:
    answer = f"To {tenant} on <{question}>: {passages[-1]} [{len(passages)}]. " + "And so on. " * 10
    if question.startswith(LONG):
        answer += "x" * (LONG_PIECES * LONG_PIECE)
    return answer


def pieces_of(answer: str) -> list[str]:
    size = PIECE if len(answer) < LONG_PIECE else LONG_PIECE
    return [answer[at : at + size] for at in range(0, len(answer), size)]
