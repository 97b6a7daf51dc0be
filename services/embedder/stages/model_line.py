"""How many queries of a stage may wait for models of the store to be loaded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.embedder.pool.stored_model import ModelKey, StoredModel, StoredModels
from shared.contracts.problems import Problem, ProblemType

__all__ = ["ModelLine"]


class ModelLine:
    """A query that waits holds room of its stage. Of `room` those that wait for models get a half, so that a model
    that takes long to load never keeps the questions of the others out."""

    def __init__(self, models: StoredModels | None, *, room: int) -> None:
        self._models = models
        self._most = max(1, room // 2)
        self._waiting = 0

    @asynccontextmanager
    async def use(self, key: ModelKey, *, urgent: bool) -> AsyncIterator[StoredModel]:
        """The model. Raises Problem MODEL_NOT_FOUND, MODEL_UNAVAILABLE, QUEUE_FULL or BROKER_UNAVAILABLE."""
        if self._models is None:
            raise Problem(ProblemType.MODEL_UNAVAILABLE, "This embedder loads no models of the store.")
        waits = urgent and not self._models.is_open(key)
        if waits and self._waiting >= self._most:
            detail = f"The model '{key.name}' is being loaded, and {self._waiting} queries wait for it. Try again soon."
            raise Problem(ProblemType.QUEUE_FULL, detail, headers={"Retry-After": "1"})
        self._waiting += waits
        try:
            async with self._models.use(key) as model:
                self._waiting -= waits
                waits = False
                yield model
        finally:
            self._waiting -= waits
