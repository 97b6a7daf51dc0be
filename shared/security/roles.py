"""What each service may do on the broker: one credential per service, that reaches no other's subjects.

The subjects are made from the names in `shared.nats.subjects`, so a renamed stream or stage cannot leave them behind.
`shared.security.broker_config` writes them down for nats-server, and `docs/broker.md` shows them as a table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Final

from shared.contracts.envelope import Lane
from shared.contracts.inference import PREDICT, UNLOAD
from shared.nats.subjects import (
    ANSWERS,
    ARTIFACTS,
    BATCHES,
    BUILT_IN_QUEUES,
    CACHE,
    CANARIES,
    CHECKPOINTS,
    COLLECTIONS,
    CONVERSATIONS,
    DOCUMENTS,
    DUE,
    EVERYTHING,
    FEEDBACK,
    FILES,
    JOB_EVENTS,
    JOB_SPECS,
    JOB_STATUS,
    JOBS,
    JOINS,
    KEYS,
    MODEL_FILES,
    MODELS,
    ORIGINALS,
    QUERIES,
    RELEASES,
    ROUTES,
    SCHEDULES,
    STEP_CACHE,
    TENSORS,
    TIMERS,
    TRAINING,
    UPLOADS,
    USAGE,
    VECTORS,
    VOLATILE,
    StreamOwnership,
    bucket_stream,
)
from shared.security.permissions import (
    API,
    Permission,
    backs_up,
    inbox_prefix,
    keeps_job_events,
    keeps_payloads,
    keeps_timers,
    looks_at,
    looks_up_records,
    makes,
    names,
    reads_buckets,
    reads_dead_letters,
    reads_objects,
    reads_payloads,
    works_on,
    writes_buckets,
    writes_objects,
)

__all__ = ["ADMIN", "BACKUP", "OWN_STAGE", "Deployment", "Role", "inbox_prefix", "role_of", "roles"]

ADMIN: Final = "admin"
"""The credential of operators: everything in the account."""

BACKUP: Final = "backup"
"""The credential that makes backups. It may read everything on disk and change nothing; a restore takes ADMIN."""

OWN_STAGE: Final = "stage-"
"""How the credential of a user's own stage begins; the stage's name follows."""

CACHES: Final = Permission(
    says="reads and keeps what steps of pipelines have found", publish=("cache.*", f"{API}.DIRECT.GET.{CACHE}.>")
)

VARIANTS: Final = ("default", "canary")
SERVED: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": ("request",),
    "embedder": ("embed", "rerank"),
    "retriever": ("retrieve", "index"),
    "generator": ("generate", "condense", "expand"),
    "predictor": (PREDICT,),
}
PIPELINE: Final = ("condense", "embed", "retrieve", "generate")
"""The built-in pipeline, with what precedes it for a question that others came before."""

RERANK: Final = "rerank"
"""What a request may insert after the stage that retrieves."""

SUBMITTED: Final = ("embed", "retrieve", "rerank", "index", "request")
"""Stages that jobs ask for their part of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One credential. A role without grants may do everything; `ownership` is its part in making the topology."""

    name: str
    grants: tuple[Permission, ...]
    ownership: StreamOwnership

    @property
    def publish(self) -> list[str]:
        return sorted(set(chain.from_iterable(grant.publish for grant in self.grants)))

    @property
    def subscribe(self) -> list[str]:
        return sorted(set(chain.from_iterable(grant.subscribe for grant in self.grants)))

    @property
    def not_subscribe(self) -> list[str]:
        return sorted(set(chain.from_iterable(grant.not_subscribe for grant in self.grants)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What there is besides the built-in stages and their variants `default` and `canary`.

    `variants` are further ones by stage. `pipelines` are lists of stages in the order in which queries pass them; a
    stage in them that no service of Sluice serves is one of the user's own. `follows` are pairs of stages of which the
    second may follow the first in a pipeline that decides on the way, also where a request has `rerank` inserted.
    `joined` are the stages of pipelines that have parallel branches, and `cached` of those that have a cache.
    """

    variants: Mapping[str, Iterable[str]] = field(default_factory=dict)
    pipelines: tuple[tuple[str, ...], ...] = ()
    follows: frozenset[tuple[str, str]] = frozenset()
    joined: frozenset[str] = frozenset()
    cached: frozenset[str] = frozenset()

    @property
    def own_stages(self) -> tuple[str, ...]:
        built_in = set(chain.from_iterable(SERVED.values()))
        named = {*chain.from_iterable((*self.pipelines, *self.follows)), *self.variants}
        return tuple(sorted(named - built_in))

    def variants_of(self, stage: str) -> tuple[str, ...]:
        # One process serves both stages, under the same variant unless it is told otherwise.
        shared = self.variants.get("embed", ()) if stage == RERANK else ()
        return tuple(dict.fromkeys((*VARIANTS, *self.variants.get(stage, ()), *shared)))

    def after(self, *stages: str) -> tuple[str, ...]:
        """The stages that a query may go to from one of these."""
        whole = [PIPELINE, *self.pipelines]
        follow_ups = [("condense", pipeline[0]) for pipeline in self.pipelines if pipeline]
        paths = [*whole, *self.follows, *map(_reranked, whole), *follow_ups]
        pairs = {pair for path in paths for pair in pairwise(path)}
        return tuple(sorted({then for first, then in pairs if first in stages}))


def _reranked(pipeline: tuple[str, ...]) -> tuple[str, ...]:
    """The stages with the one that a request may insert after the last that retrieves."""
    if "retrieve" not in pipeline or RERANK in pipeline:
        return pipeline
    after = len(pipeline) - pipeline[::-1].index("retrieve")
    return (*pipeline[:after], RERANK, *pipeline[after:])


def role_of(name: str) -> Role | None:
    """The role of a credential's name in any deployment, as far as its streams go; None for any other name."""
    own = (name.removeprefix(OWN_STAGE),) if name.startswith(OWN_STAGE) else ()
    return next((role for role in roles(Deployment(pipelines=(own,))) if role.name == name), None)


def roles(deployment: Deployment | None = None) -> tuple[Role, ...]:
    """Every role, those of own stages and of operators last."""
    deployment = deployment or Deployment()
    retriever = (*_stage_service("retriever", deployment), reads_objects(VECTORS))
    own = (f"{OWN_STAGE}{stage}" for stage in deployment.own_stages)
    return (
        _role("gateway", _gateway(deployment), makes=VOLATILE),
        _role("embedder", (*_stage_service("embedder", deployment), *_reads_models())),
        _role("retriever", retriever),
        _role("generator", (*_stage_service("generator", deployment), _asks_about_sentences(), *_reads_models())),
        _role("predictor", (*_stage_service("predictor", deployment), *_predictor())),
        _role("scheduler", _scheduler(), makes=EVERYTHING),
        _role("trainer", _trainer()),
        _role(BACKUP, backs_up(*sorted(EVERYTHING - VOLATILE))),
        *(_role(name, _stage(name, (name.removeprefix(OWN_STAGE),), deployment)) for name in own),
        _role(ADMIN, (), makes=EVERYTHING),
    )


def _role(name: str, grants: tuple[Permission, ...], makes: frozenset[str] = frozenset()) -> Role:
    """Whatever stream a role may look at and does not make is one that it needs."""
    looks = set(chain.from_iterable(grant.publish for grant in grants))
    needs = frozenset(stream for stream in EVERYTHING - makes if f"{API}.STREAM.INFO.{stream}" in looks)
    return Role(name=name, grants=grants, ownership=StreamOwnership(makes=makes, needs=needs))


def _gateway(deployment: Deployment) -> tuple[Permission, ...]:
    return (
        *_every_service("gateway"),
        CACHES,
        makes(*sorted(VOLATILE)),
        Permission(
            says="makes the queues of the built-in stages",
            publish=tuple(f"{API}.CONSUMER.CREATE.{QUERIES}.{each.consumer}.{each.filter}" for each in BUILT_IN_QUEUES),
        ),
        Permission(says="sends queries to every stage", publish=("query.*.*.*.*",)),
        Permission(
            says="takes queries out of queues whose workers do not come in time",
            publish=(f"{API}.STREAM.MSG.GET.{QUERIES}", f"{API}.STREAM.MSG.DELETE.{QUERIES}"),
        ),
        Permission(
            says="reads the replies to gateways",
            publish=("reply.*.canary",),
            subscribe=("reply.*.*", "reply.*.*.delivered"),
            not_subscribe=("reply.scheduler.>", "reply.generator.>"),
        ),
        *(works_on(stage, deployment.variants_of(stage)) for stage in SERVED["gateway"]),
        Permission(
            says="answers the requests of batches",
            publish=("reply.scheduler.*", "reply.scheduler.*.delivered", f"{inbox_prefix('gateway')}.>"),
        ),
        Permission(says="stops queries and jobs", publish=("control.cancel.*", "control.job.*.cancel")),
        Permission(says="asks all services for their status and for traces", publish=("control.ping", "control.trace")),
        looks_at(QUERIES, JOBS),
        Permission(says="submits jobs", publish=("job.*.*.*",)),
        keeps_job_events(),
        keeps_payloads(),
        reads_dead_letters(),
        keeps_timers("timer.cron.*.*"),
        writes_buckets(
            JOB_STATUS,
            JOB_SPECS,
            COLLECTIONS,
            ROUTES,
            KEYS,
            SCHEDULES,
            FILES,
            BATCHES,
            CONVERSATIONS,
            USAGE,
            ANSWERS,
            FEEDBACK,
            MODELS,
            RELEASES,
            CANARIES,
            JOINS,
        ),
        reads_buckets(DOCUMENTS, CHECKPOINTS),
        writes_objects(UPLOADS, ARTIFACTS, MODEL_FILES, TENSORS),
        Permission(says="has predictors drop models from memory", publish=(UNLOAD,)),
    )


def _scheduler() -> tuple[Permission, ...]:
    return (
        *_every_service("scheduler"),
        makes(*sorted(EVERYTHING)),
        Permission(
            says="makes the queues of jobs and timers, takes from them, and removes those of jobs that are empty",
            publish=(
                f"{API}.CONSUMER.CREATE.{JOBS}.*.job.>",
                f"{API}.CONSUMER.MSG.NEXT.{JOBS}.*",
                f"{API}.CONSUMER.DELETE.{JOBS}.*",
                f"$JS.ACK.{JOBS}.>",
                f"{API}.CONSUMER.CREATE.{TIMERS}.{DUE}.due.>",
                f"{API}.CONSUMER.MSG.NEXT.{TIMERS}.{DUE}",
                f"{API}.CONSUMER.INFO.{TIMERS}.{DUE}",
                f"$JS.ACK.{TIMERS}.{DUE}.>",
            ),
            subscribe=("job.*.*.*",),
        ),
        Permission(says="submits jobs, and keeps failed ones as dead letters", publish=("job.*.*.*", "dead.job.>")),
        Permission(
            says=f"sends queries to {names(SUBMITTED)} on the batch lane",
            publish=tuple(f"query.{stage}.*.{Lane.BATCH}.*" for stage in SUBMITTED),
        ),
        Permission(says="reads the replies to schedulers", subscribe=("reply.scheduler.*",)),
        Permission(
            says="stops queries and jobs, and receives requests to stop jobs",
            publish=("control.cancel.*", "control.job.*.cancel"),
            subscribe=("control.job.*.cancel",),
        ),
        keeps_job_events(),
        Permission(
            says="takes the events of experiment runs and the changes of releases, to copy these to MLflow",
            publish=(f"$JS.ACK.{JOB_EVENTS}.>", f"$JS.ACK.{bucket_stream(RELEASES)}.>"),
        ),
        reads_dead_letters(),
        keeps_timers("timer.cron.*.*", "timer.retry.*.*"),
        writes_buckets(
            JOB_STATUS,
            JOB_SPECS,
            CHECKPOINTS,
            STEP_CACHE,
            FILES,
            BATCHES,
            COLLECTIONS,
            DOCUMENTS,
            SCHEDULES,
            MODELS,
            RELEASES,
            CANARIES,
            ROUTES,
        ),
        reads_buckets(ANSWERS, FEEDBACK),
        reads_payloads(),
        writes_objects(UPLOADS, VECTORS, ORIGINALS, ARTIFACTS, MODEL_FILES, TRAINING),
    )


def _trainer() -> tuple[Permission, ...]:
    return (
        Permission(says="receives the replies to its own requests", subscribe=(f"{inbox_prefix('trainer')}.>",)),
        reads_objects(ARTIFACTS),
        writes_buckets(MODELS),
        writes_objects(MODEL_FILES, TRAINING),
    )


def _stage_service(name: str, deployment: Deployment) -> tuple[Permission, ...]:
    return _stage(name, SERVED[name], deployment)


def _stage(name: str, stages: tuple[str, ...], deployment: Deployment) -> tuple[Permission, ...]:
    next_stages = deployment.after(*stages)
    forwards = Permission(
        says=f"forwards queries to {names(next_stages)}", publish=tuple(f"query.{stage}.*.*.*" for stage in next_stages)
    )
    return (
        *_every_service(name),
        Permission(says="checks that the queues exist", publish=(f"{API}.STREAM.INFO.{QUERIES}",)),
        *(works_on(stage, deployment.variants_of(stage)) for stage in stages),
        *((forwards,) if next_stages else ()),
        *((looks_up_records(JOINS),) if deployment.joined.intersection(stages) else ()),
        *((CACHES,) if deployment.cached.intersection(stages) else ()),
        Permission(
            says="replies to the caller", publish=("reply.*.*", "reply.*.*.delivered", f"{inbox_prefix(name)}.>")
        ),
    )


def _predictor() -> tuple[Permission, ...]:
    return (
        writes_objects(TENSORS),
        Permission(says="receives requests to drop models from memory", subscribe=(UNLOAD,)),
        Permission(
            says="tells other predictors which models it has, and gives them calls",
            publish=("control.predictor.loaded.*", "control.predictor.call.*"),
            subscribe=("control.predictor.loaded.*", "control.predictor.call.*"),
        ),
    )


def _reads_models() -> tuple[Permission, ...]:
    return reads_buckets(MODELS), reads_objects(MODEL_FILES)


def _asks_about_sentences() -> Permission:
    return Permission(
        says="asks `embed` for the vectors of sentences and `predict` for a judgement of them, reads the replies, and "
        "stops these queries",
        publish=("query.embed.*.*.*", f"query.{PREDICT}.*.*.*", "control.cancel.*"),
        subscribe=("reply.generator.*",),
    )


def _every_service(name: str) -> tuple[Permission, ...]:
    return (
        Permission(
            says="receives pings, cancels, requests for traces and the replies to its own requests",
            publish=("control.keep",),
            subscribe=(
                "control.ping",
                "control.trace",
                "control.keep",
                "control.cancel.*",
                f"{inbox_prefix(name)}.>",
            ),
        ),
    )
