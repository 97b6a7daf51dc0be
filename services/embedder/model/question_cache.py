"""Vectors of questions: what was asked before is looked up, and what is asked twice at once is computed once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from prometheus_client import Counter

from services.embedder.model.model import Kind
from shared.contracts.envelope import Lane

__all__ = ["QUESTION_VECTORS", "Question", "QuestionCache"]

V = TypeVar("V")

ENTRY_BYTES: Final = 600
"""Memory of an entry beside its texts and its value, about."""

QUESTION_VECTORS = Counter(
    "sluice_question_vectors_total",
    "Questions by where their vector is from: computed, cached, or shared with the same question in work.",
    ("source",),
)


class Question(NamedTuple):
    """What is embedded together, for whom. A tenant never sees by the time it takes what another one has asked.

    `model` is a model of the store, empty for the process's own.
    """

    tenant: str
    kind: Kind
    texts: tuple[str, ...]
    model: str = ""


@dataclass(slots=True)
class _Computation(Generic[V]):
    task: asyncio.Task[V]
    waiting: int = 0


class QuestionCache(Generic[V]):
    """Values of questions in at most `max_bytes`; those asked for longest ago leave first. With 0 none is kept.

    `size` gives the bytes of a value. For one event loop.
    """

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._bytes = 0
        self._entries: OrderedDict[Question, tuple[V, int]] = OrderedDict()
        self._computations: dict[tuple[Question, Lane], _Computation[V]] = {}

    @property
    def bytes(self) -> int:
        """Memory in use, about; never more than the bound."""
        return self._bytes

    async def get(self, question: Question, lane: Lane, compute: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The value, from `compute` where it is not known. Raises what `compute` raises, which is not kept.

        The computation ends when nobody waits for it any more. A question does not wait for the same one of the other
        lane.
        """
        if (entry := self._entries.get(question)) is not None:
            self._entries.move_to_end(question)
            QUESTION_VECTORS.labels("cached").inc()
            return entry[0]
        key = question, lane
        computation = self._computations.get(key)
        QUESTION_VECTORS.labels("computed" if computation is None else "shared").inc()
        if computation is None:
            computation = self._computations[key] = _Computation(asyncio.create_task(self._compute(key, compute)))
        computation.waiting += 1
        try:
            return await asyncio.shield(computation.task)
        finally:
            computation.waiting -= 1
            if not computation.waiting and not computation.task.done():
                self._forget(key, computation.task)
                computation.task.cancel()

    async def _compute(self, key: tuple[Question, Lane], compute: Callable[[], Coroutine[Any, Any, V]]) -> V:
        try:
            value = await compute()
        finally:
            self._forget(key, asyncio.current_task())
        self._keep(key[0], value)
        return value

    def _forget(self, key: tuple[Question, Lane], task: asyncio.Task[V] | None) -> None:
        """A computation that was given up may end after the next one of its question has begun."""
        known = self._computations.get(key)
        if known is not None and known.task is task:
            del self._computations[key]

    def _keep(self, question: Question, value: V) -> None:
        size = self._size(value) + ENTRY_BYTES + 4 * sum(map(len, question.texts))
        if size > self._max_bytes or question in self._entries:
            return
        self._entries[question] = value, size
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, oldest) = self._entries.popitem(last=False)
            self._bytes -= oldest
