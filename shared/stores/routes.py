"""Routes as records in the bucket `routes`, by stage.

Every write has a revision, so of two people who change a route at once the second gets an error instead of undoing the
first change.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.client import Client
from nats.js import JetStreamContext
from pydantic import ValidationError

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.routes import Route
from shared.nats.kv import Repository
from shared.nats.subjects import ROUTES
from shared.nats.watch import DEFAULTS, WatchOptions, watch_records

__all__ = ["Routes", "StoredRoute", "revision_conflict", "watch_routes"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route with the number of its last write, which no other write of any route has."""

    route: Route
    revision: int


class Routes:
    """The routes of all stages. A route that cannot be read is one without weights."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records: Repository[Route | None] = Repository(jetstream, ROUTES, _read)

    async def get(self, stage: str) -> StoredRoute | None:
        """None for a stage without a route."""
        stored = await self._records.read(stage)
        if stored is None:
            return None
        return StoredRoute(route=stored.record or Route(stage=stage), revision=stored.revision)

    async def list(self) -> list[StoredRoute]:
        """All routes by stage."""
        stages = sorted([stage async for stage, _ in self._records.entries()])
        return [stored for stored in await asyncio.gather(*map(self.get, stages)) if stored is not None]

    async def put(self, route: Route, *, revision: int | None = None) -> int:
        """Write a route and return its new revision.

        With a `revision` only if that is the last one, 0 being that of no route. Raises Problem PRECONDITION_FAILED.
        """
        written = await self._records.put(route.stage, route, revision=revision)
        if written is None:
            raise revision_conflict(route.stage)
        return written

    async def delete(self, stage: str, *, revision: int | None = None) -> None:
        """Remove a route; one that does not exist is not an error. Raises Problem PRECONDITION_FAILED as `put` does."""
        if not await self._records.delete(stage, revision=revision):
            raise revision_conflict(stage)


@asynccontextmanager
async def watch_routes(
    client: Client,
    jetstream: JetStreamContext,
    changed: Callable[[Mapping[str, Route]], None],
    options: WatchOptions = DEFAULTS,
) -> AsyncIterator[None]:
    """Call `changed` with all routes by stage: before the block begins, then within a second of each change.

    While the broker is away the last routes stay in force. Raises TimeoutError where there is no answer at first.
    """

    def read(_: str, value: bytes, known: Route | None) -> Route | None:
        # A route that cannot be read leaves the last readable one in force.
        return _read(value) or known

    async with watch_records(client, jetstream, ROUTES, read=read, changed=changed, options=options):
        yield


def _read(value: bytes) -> Route | None:
    try:
        return Route.model_validate_json(value)
    except ValidationError as error:
        log.warning("a route cannot be read: %s: %.200r", error, value)
        return None


def revision_conflict(stage: str) -> Problem:
    """PRECONDITION_FAILED: the route of this stage has another revision."""
    return Problem(
        ProblemType.PRECONDITION_FAILED,
        f"The route of stage '{stage}' has changed since you read it. Read it again before you change it.",
    )
