"""What does the jobs of each kind.

A module named after a kind, in any package of the scheduler, decorates a factory with `job_kind` and the kind's spec.
"""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from nats.js.object_store import ObjectStore

import services.scheduler
from services.scheduler.clients.requests import Requests
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.ingestion.originals import Originals
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.settings import SchedulerSettings
from shared.contracts.jobs import KINDS, JobSpec
from shared.runtime.requester import Requester
from shared.service.bus import Bus
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.files import Files
from shared.stores.jobs.store import JobStore
from shared.stores.models import ModelStore

__all__ = ["JobKind", "JobDependencies", "JobFunction", "Pool", "job_kind", "load_kinds"]


class Pool(StrEnum):
    """Which of a worker's slots a kind takes, so that long work never keeps short work waiting.

    `long` is for kinds that mostly wait for others, for hours if need be. They save what they have done as a
    checkpoint: when the worker stops they are broken off at once and go on elsewhere. `flow` and `sweep` are the same
    for jobs that wait for jobs: pipelines, and sweeps, for which pipelines wait too. In slots of their own they never
    keep those waiting that they wait for.
    """

    SHORT = "short"
    LONG = "long"
    FLOW = "flow"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDependencies:
    """What kinds are made from."""

    bus: Bus
    settings: SchedulerSettings
    job_store: JobStore
    stages: Requester
    requests: Requests
    collections: Collections
    documents: Documents
    originals: Originals
    indexer: Indexer
    artifacts: Artifacts
    files: Files
    models: ModelStore
    uploads: ObjectStore


JobFunction = Callable[[JobContext], Awaitable[None]]
"""Does a job; may be cancelled at any `await`, and run again. Raises Problem when it cannot be done; anything else
raised, and problems that may pass, are tried again."""

Factory = Callable[[JobDependencies], JobFunction]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    name: str
    pool: Pool
    perform: JobFunction


_factories: dict[type[JobSpec], tuple[Pool, Factory]] = {}


def job_kind(spec: type[JobSpec], *, pool: Pool = Pool.SHORT) -> Callable[[Factory], Factory]:
    """Register a factory of the function that does jobs with this spec."""

    def register(factory: Factory) -> Factory:
        _factories[spec] = pool, factory
        return factory

    return register


def load_kinds(dependencies: JobDependencies) -> Mapping[str, JobKind]:
    """Import the module of every kind and make its function. Raises LookupError for a kind that no module does."""
    for package in pkgutil.iter_modules(services.scheduler.__path__, "services.scheduler."):
        for kind in KINDS:
            if package.ispkg and find_spec(f"{package.name}.{kind}"):
                importlib.import_module(f"{package.name}.{kind}")
    if missing := [kind for kind, spec in KINDS.items() if spec not in _factories]:
        raise LookupError(f"nothing does jobs of the kinds {missing}")
    found = ((kind, *_factories[spec]) for kind, spec in KINDS.items())
    return {kind: JobKind(name=kind, pool=pool, perform=factory(dependencies)) for kind, pool, factory in found}
