"""Routes: which variants of a stage queries go to, by weight, as records in the bucket `routes`.

A stage without a route has one variant, `default`. The key of a record is its stage. Every write has a revision, so
of two people who change a route at once the second gets an error instead of undoing the first change.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import AfterValidator, Field, ValidationError

from shared.contracts.envelope import Name, Wire
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import CHANGED, snapshot
from shared.nats.subjects import ROUTES
from shared.stores.watch import watch_records

__all__ = ["DEFAULT", "Percents", "Route", "Routes", "StoredRoute", "Weights", "watch_routes", "revision_conflict"]

log = logging.getLogger(__name__)

DEFAULT: Final = "default"
MOST_VARIANTS: Final = 32


def _some_above_zero(weights: dict[str, float]) -> dict[str, float]:
    if weights and not any(weights.values()):
        raise ValueError("at least one weight must be above zero")
    return weights


Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Weights = Annotated[dict[Name, Weight], Field(max_length=MOST_VARIANTS), AfterValidator(_some_above_zero)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Percents = Annotated[dict[Name, Percent], Field(max_length=MOST_VARIANTS)]


class Route(Wire):
    """Where the queries of a stage go. `weights` are relative to their sum; without any, all go to `default`.

    `shadows` says of which percentage of the queries a variant gets a copy whose answer is dropped. `updated_at` is
    Unix seconds, `updated_by` is the name that the writer gave.
    """

    stage: Name
    weights: Weights = {}
    shadows: Percents = {}
    updated_at: float = 0.0
    updated_by: str = ""

    @property
    def shares(self) -> dict[str, float]:
        """The share of each variant that gets any queries; together they are 1."""
        if not self.weights:
            return {DEFAULT: 1.0}
        total = sum(self.weights.values())
        return {variant: weight / total for variant, weight in self.weights.items() if weight > 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route with the number of its last write, which no other write of any route has."""

    route: Route
    revision: int


class Routes:
    """The routes of all stages."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._bucket: KeyValue | None = None

    async def get(self, stage: str) -> StoredRoute | None:
        """None for a stage without a route."""
        bucket = await self._open()
        try:
            entry = await bucket.get(stage)
        except KeyNotFoundError:
            return None
        route = _read(stage, entry.value) or Route(stage=stage)
        return StoredRoute(route=route, revision=entry.revision or 0)

    async def list(self) -> list[StoredRoute]:
        """All routes by stage."""
        bucket = await self._open()
        stages = sorted([stage async for stage, _ in snapshot(bucket, ">")])
        return [stored for stored in await asyncio.gather(*map(self.get, stages)) if stored is not None]

    async def put(self, route: Route, *, revision: int | None = None) -> int:
        """Write a route and return its new revision.

        With a `revision` only if that is the last one, 0 being that of no route. Raises Problem PRECONDITION_FAILED.
        """
        bucket = await self._open()
        value = route.model_dump_json().encode()
        try:
            if revision is None:
                return await bucket.put(route.stage, value)
            if revision == 0:
                return await bucket.create(route.stage, value)
            return await bucket.update(route.stage, value, last=revision)
        except KeyWrongLastSequenceError:
            raise revision_conflict(route.stage) from None

    async def delete(self, stage: str, *, revision: int | None = None) -> None:
        """Remove a route; one that does not exist is not an error. Raises Problem PRECONDITION_FAILED as `put` does."""
        bucket = await self._open()
        try:
            await bucket.delete(stage, last=revision)
        except APIError as error:
            if error.err_code not in CHANGED:
                raise
            raise revision_conflict(stage) from None

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(ROUTES)
        return self._bucket


@asynccontextmanager
async def watch_routes(
    client: Client, jetstream: JetStreamContext, changed: Callable[[Mapping[str, Route]], None]
) -> AsyncIterator[None]:
    """Call `changed` with all routes by stage: before the block begins, then within a second of each change.

    While the broker is away the last routes stay in force. Raises TimeoutError where there is no answer at first.
    """

    def read(stage: str, value: bytes, known: Route | None) -> Route | None:
        # A route that cannot be read leaves the last readable one in force.
        return _read(stage, value) or known

    async with watch_records(client, jetstream, ROUTES, read=read, changed=changed):
        yield


def _read(stage: str, value: bytes | None) -> Route | None:
    try:
        return Route.model_validate_json(value or b"")
    except ValidationError as error:
        log.warning("the route of stage '%s' cannot be read: %s", stage, error)
        return None


def revision_conflict(stage: str) -> Problem:
    """PRECONDITION_FAILED: the route of this stage has another revision."""
    return Problem(
        ProblemType.PRECONDITION_FAILED,
        f"The route of stage '{stage}' has changed since you read it. Read it again before you change it.",
    )
