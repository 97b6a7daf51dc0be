"""The surface of Sluice: all that its users, their programs and neighbouring versions touch, as plain data.

Product code is imported here at the top, and nowhere else. The data do not depend on where it lives, what its classes
are called or what its docstrings say: schemas are written out by structure, and the labels are those given here.
"""

import asyncio
import dataclasses
import importlib
import inspect
import re
import typing
from pathlib import Path
from typing import Any, Final

import httpx
import prometheus_client
import typer
from nats.js import JetStreamContext
from prometheus_client import Histogram
from pydantic import BaseModel
from pydantic_settings import BaseSettings

import sluice
from services.embedder.settings import EmbedderSettings
from services.embedder.stages.embed import EmbedParams
from services.embedder.stages.rerank import RerankParams
from services.gateway.app import make as make_gateway
from services.gateway.inference.errors import InferenceError
from services.gateway.openai.batches.service import BatchRecord
from services.gateway.openai.errors import ErrorBody
from services.gateway.openai.responses import ChatChunk
from services.gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.predictor.peers.messages import LoadedModels, PeerAnswer, PeerCall
from services.predictor.settings import PredictorSettings
from services.retriever.settings import RetrieverSettings
from services.retriever.stages.retrieve import RetrieveParams
from services.scheduler.batches.batch import _Checkpoint as BatchCheckpoint
from services.scheduler.collections.reindex import BuildPlan as ReindexCheckpoint
from services.scheduler.evaluation.questions import Judged, Question
from services.scheduler.jobs.retry import submit_later
from services.scheduler.settings import SchedulerSettings
from services.scheduler.sweeps.state import SweepState
from services.scheduler.tracking.run_mirror import RunCopy
from services.scheduler.tuning.state import TuneState
from shared.contracts.canaries import CanaryCounts
from shared.contracts.collections import Collection
from shared.contracts.documents import Document
from shared.contracts.envelope import Lane, Query, Stop
from shared.contracts.events import AnyEvent, Cancel, Delivered
from shared.contracts.generation import GenerateParams
from shared.contracts.graphs.caching import Kept
from shared.contracts.graphs.joins import JoinRecord
from shared.contracts.graphs.nodes import CONTROLS
from shared.contracts.indexing import IndexChange
from shared.contracts.inference import Call, Unload
from shared.contracts.jobs.job import Job, JobOptions
from shared.contracts.jobs.specs import KINDS, decode_spec
from shared.contracts.keys import Action, ApiKey
from shared.contracts.models import AdapterBase, Model
from shared.contracts.pipelines.state import PipelineState
from shared.contracts.problems import ProblemDetails, ProblemType
from shared.contracts.releases import Release, ReleaseImport
from shared.contracts.requests import Request
from shared.contracts.results import IndexOutcome, Response
from shared.contracts.routes import Route
from shared.contracts.schedules.schedule import Schedule
from shared.contracts.training import TrainingMetrics, TrainingOrder
from shared.contracts.wire import Wire
from shared.nats.settings import QueueSettings
from shared.nats.subjects import BUILT_IN_QUEUES, delivered_subject, query_subject, reply_subject
from shared.nats.subjects import cancel_subject as query_cancel_subject
from shared.nats.topology import Topology
from shared.runtime.forward import forward
from shared.security.broker_config import accounts_conf
from shared.security.roles import Deployment, inbox_prefix, roles
from shared.service.service import PING, Service, ServiceStatus
from shared.service.settings import ServiceSettings
from shared.stores.dead_letters import DeadLetters
from shared.stores.files import FileRecord
from shared.stores.jobs.store import JobStore, job_subject
from shared.stores.jobs.store import cancel_subject as job_cancel_subject
from shared.stores.schedules import Schedules
from shared.telemetry.trace_events import KEEP, TRACE, TraceReport, TraceRequest
from sluice.api.collections import CollectionPage
from sluice.api.dead_letters import DeadLetter
from sluice.api.documents import DocumentPage
from sluice.api.jobs import Artifact, AuditEvent, Step
from sluice.api.jobs import Schedule as ClientSchedule
from sluice.api.keys import ApiKey as ClientKey
from sluice.api.keys import IssuedKey
from sluice.api.pipelines import Pipeline as ListedPipeline
from sluice.api.queries import Delta, Done, Sources
from sluice.api.registry import RegisteredModel
from sluice.api.releases import ImportedRelease, Lineage
from sluice.api.releases import Release as ClientRelease
from sluice.api.routing import Route as ClientRoute
from sluice.api.runs import MetricSeries, Run
from sluice.api.traces import Trace
from sluice.cli import app as command_line
from sluice.client.pipeline import ITEM
from tests.contract.fake_broker import FakeBroker
from tests.contract.structure import (
    attributes_of,
    canonical,
    differences,
    literals,
    members_of,
    model_schema,
    operation,
    plain,
    spelled,
)

__all__ = ["SECTIONS", "surface", "unlisted"]

ROOT: Final = Path(__file__).parents[2]
PRODUCT: Final = tuple(ROOT / folder for folder in ("services", "shared", "sluice"))

SETTINGS: Final[dict[str, type[BaseSettings]]] = {
    "embedder": EmbedderSettings,
    "gateway": GatewaySettings,
    "generator": GeneratorSettings,
    "predictor": PredictorSettings,
    "retriever": RetrieverSettings,
    "scheduler": SchedulerSettings,
}

PAGES: Final = (
    "/",
    "/ask",
    "/asyncapi",
    "/docs",
    "/docs/oauth2-redirect",
    "/livez",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/sign-in",
)
"""What the OpenAPI document does not name."""

STREAMED: Final[dict[str, type[BaseModel]]] = {
    "sources": Sources,
    "delta": Delta,
    "done": Done,
    "error": ProblemDetails,
    "chat chunk": ChatChunk,
}
"""What comes in server-sent events."""

REFUSALS: Final[dict[str, type[BaseModel]]] = {
    "problem": ProblemDetails,
    "OpenAI error": ErrorBody,
    "inference error": InferenceError,
}
"""The bodies of responses that most operations have."""

WIRE: Final[dict[str, Any]] = {
    "query": Query,
    "cancel of a query": Cancel,
    "unload of a model": Unload,
    "models of a predictor": LoadedModels,
    "call of a predictor": PeerCall,
    "answer of a predictor": PeerAnswer,
    "delivered": Delivered,
    "params embed": EmbedParams,
    "params rerank": RerankParams,
    "params retrieve": RetrieveParams,
    "params generate": GenerateParams,
    "params predict": Call,
    **{f"params graph {kind}": control for kind, control in CONTROLS.items()},
    "params request": Request,
    "response to a request": Response,
    "index change": IndexChange,
    "index outcome": IndexOutcome,
    "job": Job,
    "job options": JobOptions,
    "problem": ProblemDetails,
    "service status": ServiceStatus,
    "trace request": TraceRequest,
    "trace report": TraceReport,
    "record api key": ApiKey,
    "record batch": BatchRecord,
    "record canary": CanaryCounts,
    "record collection": Collection,
    "record document": Document,
    "record file": FileRecord,
    "record join": JoinRecord,
    "record of a pipeline's cache": Kept,
    "record model": Model,
    "record pipeline state": PipelineState,
    "record release": Release,
    "record import of a release": ReleaseImport,
    "record route": Route,
    "record schedule": Schedule,
    "checkpoint batch": BatchCheckpoint,
    "checkpoint reindex": ReindexCheckpoint,
    "checkpoint sweep": SweepState,
    "checkpoint tune": TuneState,
    "checkpoint copy of a run": RunCopy,
    "line evaluation question": Question,
    "line evaluation judged": Judged,
    **{f"event {model.model_fields['type'].default}": model for model in typing.get_args(AnyEvent)},
    "base of an adapter": AdapterBase,
    "training order": TrainingOrder,
    "training metrics": TrainingMetrics,
    **{f"spec {model.model_fields['kind'].default}": model for model in KINDS.values()},
}
"""What passes over the broker or lies on it, with the files that users write for jobs."""

RESULTS: Final[dict[str, type[BaseModel]]] = {
    "api key": ClientKey,
    "artifact": Artifact,
    "audit event": AuditEvent,
    "dead letter": DeadLetter,
    "collection page": CollectionPage,
    "document page": DocumentPage,
    "issued key": IssuedKey,
    "listed pipeline": ListedPipeline,
    "metrics by step": MetricSeries,
    "route": ClientRoute,
    "run": Run,
    "schedule": ClientSchedule,
    "imported release": ImportedRelease,
    "lineage": Lineage,
    "model": RegisteredModel,
    "release": ClientRelease,
    "step": Step,
    "trace": Trace,
}
"""What the client's methods return besides the models that `sluice` exports."""

OWN: Final = Deployment(variants={"generate": ("large",)}, pipelines=(("embed", "retrieve", "redact", "generate"),))
"""An installation with a variant and a stage of its own."""

DEFAULTS: Final = QueueSettings.model_construct()
OTHERS: Final = QueueSettings(
    replicas=3,
    queue_limit=11,
    queue_bytes=2**21,
    longest_deadline=77.0,
    ack_wait=7.0,
    max_deliver=9,
    job_limit=13,
    job_tenant_limit=12,
    history_seconds=1234.0,
    history_bytes=2**21,
    payload_days=2,
    payload_bytes=2**20,
    upload_seconds=4321.0,
)


def surface() -> dict[str, Any]:
    """The whole surface by section."""
    return {name: make() for name, make in SECTIONS.items()}


def http() -> dict[str, Any]:
    """The gateway's operations and pages, and the pages of every other service."""
    _, gateway = make_gateway(GatewaySettings())
    service = Service("contract", ServiceSettings(), lambda _: None).asgi()  # type: ignore[arg-type, return-value]

    async def look() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        async with _client(gateway) as client, _client(service) as other:
            document = (await client.get("/openapi.json")).json()
            # With a wrong method a page that is there says which methods it takes, without asking for a key.
            answers = {path: await client.request("PATCH", path) for path in PAGES}
            pages = {
                path: {"status": a.status_code, "allow": sorted(a.headers["allow"].split(", "))}
                for path, a in answers.items()
            }
            names = ("/asyncapi", "/livez", "/metrics", "/readyz")
            return document, pages, {path: (await other.get(path)).status_code for path in names}

    document, pages, others = asyncio.run(look())
    refusals = {canonical(model_schema(model)): name for name, model in REFUSALS.items()}
    return {
        "operations": {
            f"{method.upper()} {path}": operation(described, document, refusals)
            for path, operations in document["paths"].items()
            for method, described in operations.items()
        },
        "security": {
            name: {key: value for key, value in scheme.items() if key != "description"}
            for name, scheme in document["components"]["securitySchemes"].items()
        },
        "refusals": {name: model_schema(model) for name, model in REFUSALS.items()},
        "events": {name: model_schema(model, "serialization") for name, model in STREAMED.items()},
        "pages of the gateway": pages,
        "pages of other services": others,
        "actions of keys": sorted(action.value for action in Action),
    }


def _client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sluice")


def cli() -> dict[str, Any]:
    """The tree of commands with their parameters."""
    return {"sluice": _command(typer.main.get_command(command_line))}


def _command(command: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "hidden": command.hidden,
        "context": dict(sorted(command.context_settings.items())),
        "options": {
            ", ".join([*option.opts, *option.secondary_opts]): _parameter(option) | {"flag": option.is_flag}
            for option in command.params
            if option.param_type_name == "option" and not option.opts[0].endswith("-completion")
        },
        "arguments": [
            {"position": position, "name": argument.metavar or argument.name.upper()} | _parameter(argument)
            for position, argument in enumerate(p for p in command.params if p.param_type_name == "argument")
        ],
    }
    if (commands := getattr(command, "commands", None)) is not None:
        found["alone"] = command.invoke_without_command
        found["commands"] = {name: _command(inner) for name, inner in sorted(commands.items())}
    return found


def _parameter(parameter: Any) -> dict[str, Any]:
    info = parameter.type_descriptor.parameter_info
    bounds = ("min", "max", "clamp", "case_sensitive", "exists", "file_okay", "dir_okay", "allow_dash", "formats")
    return {
        "type": "custom" if info.parser else spelled(parameter.type_descriptor.annotation),
        "bounds": {name: getattr(info, name) for name in bounds if getattr(info, name) not in (None, False)},
        "required": parameter.required,
        "default": plain(parameter.default),
        "multiple": parameter.multiple,
        "count": getattr(parameter, "count", False),
        "nargs": parameter.nargs,
        "variable": parameter.envvar,
        "hidden": parameter.hidden,
    }


def environment() -> dict[str, Any]:
    """The variables of each service, and all that the code names."""
    services: dict[str, Any] = {}
    for service, settings in SETTINGS.items():
        described = model_schema(settings)
        assert settings.model_fields.keys() == described["properties"].keys()
        prefix = settings.model_config["env_prefix"]
        services[service] = {
            f"{prefix}{name}".upper(): {"required": name in described.get("required", ()), "schema": value}
            for name, value in described["properties"].items()
        }
    return {"services": services, "named": literals(PRODUCT, r"SLUICE_[A-Z0-9_]*[A-Z0-9]")}


def metrics() -> dict[str, Any]:
    """Kind, labels and buckets of every metric, by the name that a scraper sees."""
    for path in sorted(path for folder in PRODUCT for path in folder.rglob("*.py")):
        if "prometheus_client import" in path.read_text():
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found: dict[str, Any] = {}
    for collector in list(prometheus_client.REGISTRY._collector_to_names):
        for family in collector.describe() if hasattr(collector, "describe") else ():
            if family.name.startswith("sluice_"):
                name = f"{family.name}_total" if family.type == "counter" else family.name
                found[name] = {"kind": family.type, "labels": sorted(getattr(collector, "_labelnames", ()))}
                if isinstance(collector, Histogram):
                    found[name]["buckets"] = [str(bound) for bound in collector._upper_bounds]
    return found


def broker() -> dict[str, Any]:
    """What the broker is asked to create, subjects, messages as they lie on it, and permissions."""
    usual, messages = asyncio.run(_asked(DEFAULTS))
    other, _ = asyncio.run(_asked(OTHERS))
    return {
        "topology": usual,
        "topology by settings": sorted(differences(usual, other)),
        "queues": {queue.consumer: queue.filter for queue in BUILT_IN_QUEUES},
        "subjects": _subjects(),
        "messages": messages,
        "headers": literals(PRODUCT, r"(Sluice|Nats|ce)-[A-Za-z-]*[A-Za-z]"),
        "permissions": _permissions(None),
        "permissions with own stages": _permissions(OWN),
        "answers": re.findall(
            r"allow_responses: (.*)", accounts_conf(roles(), {role.name: "x" for role in roles()} | {"sys": "x"})
        )[:1],
    }


QUERY: Final = Query(
    id="q1",
    tenant="acme",
    lane=Lane.BATCH,
    asked_at=1.0,
    deadline=1e12,
    reply=reply_subject("gateway-1", "q1"),
    slip=(Stop(stage="embed", variant="canary"), Stop(stage="retrieve")),
)
SPEC: Final = decode_spec({"kind": "switch", "collection": "docs", "version": "v2"})
OPTIONS: Final = JobOptions.model_validate({"priority": "high", "by": "ci", "labels": {"team": "a"}})


async def _asked(settings: QueueSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the broker is asked to create, and how queries, jobs, timers and dead letters lie on it."""
    client: Any = FakeBroker()
    jetstream = JetStreamContext(client)
    topology = Topology(jetstream, settings)
    await topology.ensure()
    await topology.ensure_queues(BUILT_IN_QUEUES)
    await topology.ensure_job_consumer("job.ingest.high.acme")
    await forward(jetstream, topology, QUERY)
    await JobStore(client, jetstream).submit(SPEC, job="j1", tenant="acme", options=OPTIONS)
    await submit_later(jetstream, SPEC, job="j2", tenant="acme", delay=60)
    await DeadLetters(client, jetstream).bury(
        query_subject(QUERY), b"{}", {"traceparent": "00"}, reason="why", deliveries=4, message_id="m"
    )
    await Schedules(jetstream).put(
        Schedule.model_validate(
            {"name": "nightly", "tenant": "acme", "spec": SPEC, "cron": "0 3 * * *", "created_at": 1.0}
        )
    )
    return client.created, client.messages


def _subjects() -> dict[str, str]:
    return {
        "query": query_subject(QUERY),
        "reply": reply_subject("gateway-1", "q1"),
        "delivered": delivered_subject("reply.gateway-1.q1"),
        "cancel of a query": query_cancel_subject("q1"),
        "job": job_subject(SPEC, "acme", OPTIONS),
        "cancel of a job": job_cancel_subject("j1"),
        "ping": PING,
        "trace": TRACE,
        "keep": KEEP,
        "inbox": inbox_prefix("gateway"),
    }


def _permissions(deployment: Deployment | None) -> dict[str, Any]:
    return {
        role.name: {
            "everything": not (role.publish or role.subscribe),
            "publish": role.publish,
            "subscribe": role.subscribe,
            "not subscribe": role.not_subscribe,
            **{f"streams {part}": sorted(streams) for part, streams in dataclasses.asdict(role.ownership).items()},
        }
        for role in roles(deployment)
    }


def wire() -> dict[str, Any]:
    """The schema of each message and record, as it is read and as it is written."""
    found: dict[str, Any] = {}
    for label, model in WIRE.items():
        reads, writes = model_schema(model), model_schema(model, "serialization")
        found[label] = {"both": reads} if reads == writes else {"read": reads, "written": writes}
        found[label]["unknown members"] = model.model_config.get("extra", "ignore")
    return found


def unlisted() -> list[str]:
    """Names of models that pass over the broker and are in no entry of `WIRE`."""
    reached: set[Any] = set()

    def reach(found: Any) -> None:
        for part in typing.get_args(found):
            reach(part)
        if isinstance(found, type) and issubclass(found, BaseModel) and found not in reached:
            reached.add(found)
            for field in found.model_fields.values():
                reach(field.annotation)

    for model in WIRE.values():
        reach(model)

    def below(model: type[BaseModel]) -> set[type[BaseModel]]:
        return {model}.union(*(below(inner) for inner in model.__subclasses__()))

    bases = {base for model in reached for base in model.__mro__}
    return sorted(model.__qualname__ for model in below(Wire) if model not in reached | bases)


def problems() -> dict[str, Any]:
    """Status code and title of each problem by its URN."""
    return {kind.uri: {"status": kind.status, "title": kind.title} for kind in ProblemType}


def python() -> dict[str, Any]:
    """What `import sluice` offers."""
    exported = {name: getattr(sluice, name) for name in sluice.__all__}
    public = {value: name for name, value in exported.items() if isinstance(value, type)}
    special = ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__")
    pipeline = sluice.Pipeline("nightly", docs="d", tolerance=0.01)
    step = pipeline.step("live", "evaluate", collection=pipeline.docs)
    own = {name for base in type(step).__mro__[:-1] for name, value in vars(base).items() if inspect.isroutine(value)}
    operators = sorted(name for name in own if not re.match("_[^_]|__init__|__repr__", name))
    return {
        "names": sorted(sluice.__all__),
        "classes": {
            name: {"attributes": attributes_of(value)} | {"members": members_of(value, public)}
            if issubclass(value, BaseModel)
            else {"members": members_of(value, public, special), "bases": _bases(value, public)}
            for name, value in exported.items()
        },
        "results": {
            name: {"attributes": attributes_of(model), "members": members_of(model, public)}
            for name, model in RESULTS.items()
        },
        "step": operators,
        "a pipeline": _example(pipeline, step),
    }


def _bases(owner: type, public: dict[type, str]) -> list[str]:
    """The classes by which users may know an object."""
    return [
        public.get(base, base.__name__) for base in owner.__mro__ if base in public or base.__module__ == "builtins"
    ]


def _example(pipeline: sluice.Pipeline, live: Any) -> dict[str, Any]:
    """What the builder makes of each of its means."""
    new = pipeline.step("new", "evaluate", needs=[live], collection=pipeline.docs, version="v2", cache=True)
    better = (new.recall >= live.recall - pipeline.tolerance) & ~(new.errors > 0) | (live.state == "failed")
    pipeline.step("each", "batch", each=["a", "b"], parallel=2, input=f"in/{ITEM}", retry={"limit": 2}, timeout=5.0)
    pipeline.step("switch", "switch", when=better, allow_failure=True, collection=pipeline.docs)
    pipeline.output("message", better.then("switched", round(new["outputs"][0] * 2 + 1, 1)))
    return {"spec": pipeline.spec, "with parameters": pipeline.with_parameters(tolerance=0.5)["parameters"]}


SECTIONS: Final = {
    "http": http,
    "cli": cli,
    "environment": environment,
    "metrics": metrics,
    "broker": broker,
    "wire": wire,
    "problems": problems,
    "python": python,
}

if __name__ == "__main__":
    print(canonical({**surface(), "unlisted": unlisted()}))
