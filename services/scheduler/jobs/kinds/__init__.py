"""The kinds of jobs, one module each. A module here registers what it does by decorating a factory with `job_kind`."""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nats.js.object_store import ObjectStore

from services.scheduler.clients.requests import Requests
from services.scheduler.clients.stages import StageClient
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.originals import Originals
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.settings import SchedulerSettings
from shared.nats.bus import Bus
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.files import Files
from shared.stores.jobs.store import JobStore

__all__ = ["JobKind", "Parts", "JobFunction", "Pool", "job_kind", "load_kinds"]


class Pool(StrEnum):
    """Which of a worker's slots a kind takes, so that long work never keeps short work waiting.

    `long` is for kinds that mostly wait for others, for hours if need be. They save what they have done as a
    checkpoint: when the worker stops they are broken off at once and go on elsewhere. `flow` is the same for jobs that
    wait for jobs: in slots of their own they never keep those waiting that they wait for.
    """

    SHORT = "short"
    LONG = "long"
    FLOW = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What kinds are made from."""

    bus: Bus
    settings: SchedulerSettings
    board: JobStore
    stages: StageClient
    requests: Requests
    collections: Collections
    documents: Documents
    originals: Originals
    indexer: Indexer
    artifacts: Artifacts
    files: Files
    uploads: ObjectStore


JobFunction = Callable[[JobContext], Awaitable[None]]
"""Does a job; may be cancelled at any `await`, and run again. Raises Problem when it cannot be done; anything else
raised, and problems that may pass, are tried again."""

Factory = Callable[[Parts], JobFunction]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    name: str
    pool: Pool
    perform: JobFunction


_factories: dict[str, tuple[Pool, Factory]] = {}


def job_kind(name: str, *, pool: Pool = Pool.SHORT) -> Callable[[Factory], Factory]:
    """Register a factory of what does jobs of this kind. Its spec is a model in `shared.contracts.jobs.specs`."""

    def register(factory: Factory) -> Factory:
        _factories[name] = pool, factory
        return factory

    return register


def load_kinds(parts: Parts) -> Mapping[str, JobKind]:
    """Import every module of this package and make the kinds that they have registered."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {name: JobKind(name=name, pool=pool, perform=factory(parts)) for name, (pool, factory) in _factories.items()}
