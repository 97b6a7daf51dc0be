"""The models, and the variant of the stage that runs each, as the workers report them.

A known model is returned at once; the registry refreshes in the background once it is two seconds old. It refreshes
before it refuses an unknown name. It remembers models without workers for a while: a query for them waits in the
queue until a worker is back.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Self

import anyio
from nats.errors import Error as NatsError

from shared.contracts.problems import Problem, ProblemType
from sluice.api.status import ServiceStatus

__all__ = ["EMBED", "GENERATE", "MODELS", "RERANK", "Model", "ModelRegistry"]

log = logging.getLogger(__name__)

GENERATE: Final = "generate"
EMBED: Final = "embed"
RERANK: Final = "rerank"
MODELS: Final = (GENERATE, EMBED, RERANK)
"""The stages that have models, in the order of a listing."""

DEFAULT: Final = "default"

FRESH_SECONDS: Final = 2.0
REMEMBERED_SECONDS: Final = 900.0
SHOWN_NAMES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as one variant of a stage runs it. `since` is Unix seconds, `seen_at` monotonic ones."""

    name: str
    stage: str
    variant: str
    since: float
    seen_at: float


class ModelRegistry:
    """The models by stage and name. `call` asks every service what it runs."""

    def __init__(
        self, call: Callable[[], Awaitable[Sequence[ServiceStatus]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._call = call
        self._clock = clock
        self._models: dict[tuple[str, str, str], Model] = {}
        self._modelless: set[str] = set()
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()
        self._stale = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Refresh in the background while the block runs."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_fresh)
            yield self
            tasks.cancel_scope.cancel()

    async def all(self) -> tuple[Model, ...]:
        """Every model, one entry for each variant that runs it. Raises nats errors."""
        if self._clock() - self._refreshed_at > FRESH_SECONDS:
            await self._refresh()
        return tuple(self._models.values())

    async def variant(self, stage: str, name: str) -> str:
        """The variant of a stage that runs the model; `default` goes first where several do.

        Raises Problem MODEL_NOT_FOUND, STAGE_UNAVAILABLE where no worker of the stage is known, nats errors.
        """
        found = self._variants(stage, name)
        if not found:
            await self._refresh()
            found = self._variants(stage, name)
        elif self._clock() - self._refreshed_at > FRESH_SECONDS:
            self._stale.set()
        if not found:
            raise self._unknown(stage, name)
        return DEFAULT if DEFAULT in found else found[0]

    def _variants(self, stage: str, name: str) -> list[str]:
        known = (m for m in self._models.values() if m.stage == stage and m.name == name)
        return sorted(m.variant for m in known if self._clock() - m.seen_at < REMEMBERED_SECONDS)

    async def _refresh(self) -> None:
        """Ask the services. Concurrent calls share one round, or two."""
        asked_at = self._clock()
        async with self._refreshing:
            if self._refreshed_at >= asked_at:
                return
            began = self._clock()
            self._update(await self._call(), began)
            self._refreshed_at = began

    async def _keep_fresh(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self._refresh()
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("cannot refresh the models: %r", error)

    def _update(self, services: Iterable[ServiceStatus], now: float) -> None:
        """Replace the models of every stage and variant that answered; remember those of the silent ones."""
        seen: dict[tuple[str, str, str], Model] = {}
        heard: set[tuple[str, str]] = set()
        self._modelless.clear()
        for service in services:
            since = service.started_at.timestamp() if service.started_at else now
            for stage in service.stages:
                if stage.stage not in MODELS:
                    continue
                heard.add((stage.stage, stage.variant))
                if not stage.model:
                    self._modelless.add(stage.stage)
                    continue
                model = Model(name=stage.model, stage=stage.stage, variant=stage.variant, since=since, seen_at=now)
                key = (model.stage, model.variant, model.name)
                known = seen.get(key)
                seen[key] = replace(model, since=min(model.since, known.since)) if known else model
        remembered = {
            key: model
            for key, model in self._models.items()
            if key[:2] not in heard and now - model.seen_at < REMEMBERED_SECONDS
        }
        self._models = remembered | seen

    def _unknown(self, stage: str, name: str) -> Problem:
        names = sorted({model.name for model in self._models.values() if model.stage == stage})
        shown = f"{name[:80]!r}"
        if names:
            some = ", ".join(names[:SHOWN_NAMES])
            detail = f"There is no model {shown} for this. The models are: {some}."
        elif stage in self._modelless and stage == GENERATE:
            detail = (
                f"There is no model {shown}: the generator quotes documents with its extractive engine, which has no "
                "model. Ask a collection, as the model 'rag/<collection>', or run another engine."
            )
        else:
            return Problem(
                ProblemType.STAGE_UNAVAILABLE,
                f"No worker of the stage '{stage}' answers, so the model {shown} is unknown. Try again, or see "
                "what runs with `sluice status`.",
                stage=stage,
            )
        return Problem(ProblemType.MODEL_NOT_FOUND, detail, param="model")
