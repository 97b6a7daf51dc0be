"""Objects of one kind as a table."""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import compress
from typing import Any, Final

from sluice.api.collections import Collection, CollectionVersion
from sluice.api.dead_letters import DeadLetter
from sluice.api.documents import Document
from sluice.api.jobs import Artifact, AuditEvent, Job, Schedule, Step
from sluice.api.keys import ApiKey
from sluice.api.openai import ModelBody
from sluice.api.passages import DocumentPassage
from sluice.api.pipelines import Pipeline
from sluice.api.queries import Source
from sluice.api.routing import Route
from sluice.api.status import ServiceStatus, Status
from sluice.notebook.jobs import state
from sluice.notebook.markup import MOST_ROWS, Cell, Markup, badge, cut, element, foreign, join, muted, table
from sluice.units import counted, file_size, moment, took

__all__ = ["collection", "objects", "page", "status"]

Columns = dict[str, Callable[[Any], object]]
"""What each column shows of an object: texts are somebody else's, integers stand at the right."""


def _units(job: Job) -> str:
    done, total = job.progress.units
    return f"{done:,}/{total:,}" if total else ""


def _when(schedule: Schedule) -> str:
    return f"every {schedule.every}" if schedule.every else " ".join(filter(None, (schedule.cron, schedule.zone)))


COLUMNS: Final[dict[type, Columns]] = {
    Collection: {
        "collection": lambda one: one.name,
        "documents": lambda one: one.documents,
        "chunks": lambda one: one.chunks,
        "version": lambda one: one.version,
        "description": lambda one: one.description,
        "created": lambda one: one.created_at,
    },
    CollectionVersion: {
        "version": lambda one: one.name,
        "state": lambda one: badge(one.state, "good" if one.state == "live" else ""),
        "documents": lambda one: one.documents,
        "chunks": lambda one: one.chunks,
        "chunk tokens": lambda one: one.chunk_tokens or "usual",
        "created": lambda one: one.created_at,
    },
    Document: {
        "document": lambda one: one.name,
        "type": lambda one: one.media_type,
        "size": lambda one: Cell(file_size(one.bytes), number=True),
        "chunks": lambda one: one.chunks,
        "metadata": lambda one: ", ".join(f"{name}: {value}" for name, value in one.metadata.items()),
        "allowed": lambda one: "everybody" if one.allowed is None else ", ".join(one.allowed) or "nobody",
        "warnings": lambda one: "; ".join(warning.detail or warning.kind for warning in one.warnings),
        "indexed": lambda one: one.indexed_at,
    },
    Job: {
        "job": lambda one: one.id,
        "kind": lambda one: one.kind,
        "state": lambda one: state(one.state),
        "collection": lambda one: one.collection,
        "done": lambda one: Cell(_units(one), number=True),
        "created": lambda one: one.created_at,
        "took": lambda one: Cell(took(one.started_at, one.finished_at), number=True),
        "error": lambda one: one.error and (one.error.detail or one.error.title),
    },
    Schedule: {
        "schedule": lambda one: one.name,
        "when": _when,
        "job": lambda one: one.spec.get("kind"),
        "state": lambda one: badge("paused", "warn") if one.paused else badge("active", "good"),
        "next": lambda one: None if one.paused else one.next_at,
        "last": lambda one: one.last_at,
        "last job": lambda one: one.last_job,
    },
    Step: {
        "step": lambda one: one.step,
        "kind": lambda one: one.kind,
        "status": lambda one: state(one.status),
        "done": lambda one: Cell(f"{one.done:,}/{one.total:,}" if one.total > 1 else "", number=True),
        "took": lambda one: Cell(took(one.started_at, one.finished_at), number=True),
        "reason": lambda one: one.reason,
    },
    AuditEvent: {
        "at": lambda one: one.at,
        "state": lambda one: state(one.state),
        "by": lambda one: one.by,
        "reason": lambda one: one.reason,
    },
    Artifact: {"artifact": lambda one: one.name, "size": lambda one: Cell(file_size(one.bytes), number=True)},
    Source: {
        "": lambda one: f"[{one.index}]",
        "document": lambda one: one.document,
        "position": lambda one: one.position,
        "score": lambda one: Cell(f"{one.score:.3f}", number=True),
        "passage": lambda one: one.text,
    },
    DocumentPassage: {"position": lambda one: one.position, "passage": lambda one: one.text},
    ApiKey: {
        "key": lambda one: one.id,
        "name": lambda one: one.name,
        "state": lambda one: badge(one.state, "good" if one.state == "active" else "warn"),
        "actions": lambda one: ", ".join(one.actions),
        "collections": lambda one: ", ".join(one.collections),
        "expires": lambda one: one.expires_at,
    },
    ModelBody: {
        "model": lambda one: one.id,
        "stage": lambda one: one.sluice.stage,
        "variants": lambda one: ", ".join(one.sluice.variants),
    },
    Pipeline: {"pipeline": lambda one: one.name},
    Route: {
        "stage": lambda one: one.stage,
        "variants": lambda one: ", ".join(f"{v.variant} {v.share:.0f} %" for v in one.variants),
        "workers": lambda one: sum(variant.workers for variant in one.variants),
        "warnings": lambda one: "; ".join(one.warnings),
    },
    ServiceStatus: {
        "service": lambda one: one.service,
        "instance": lambda one: one.instance,
        "state": lambda one: badge("ready", "good") if one.ready else badge("not ready", "bad"),
        "stages": lambda one: ", ".join(stage.stage for stage in one.stages),
        "version": lambda one: one.version,
    },
    DeadLetter: {
        "number": lambda one: one.seq,
        "subject": lambda one: one.subject,
        "reason": lambda one: one.reason,
        "failed": lambda one: one.failed_at,
    },
}


def objects(shown: Sequence[object]) -> Markup | None:
    """A table of objects of one class, without columns that none of them fills.

    None where they are of several classes, or of one that has no table.
    """
    kinds = set(map(type, shown))
    columns = COLUMNS.get(kinds.pop()) if len(kinds) == 1 else None
    if columns is None:
        return None
    rows = [[_cell(value(one)) for value in columns.values()] for one in shown[:MOST_ROWS]]
    filled = [any(row[place].content for row in rows) for place in range(len(columns))]
    return table(tuple(compress(columns, filled)), (tuple(compress(row, filled)) for row in rows), total=len(shown))


def page(shown: Sequence[object], following: str | None, noun: str) -> Markup:
    """A page of a listing, which says whether there are more."""
    more = (
        muted("More follow: the next page is ", element("code", cut(f"after={following!r}", 1_500)), ".")
        if following
        else ""
    )
    return join((objects(shown) or muted(f"No {noun}."), " ", more))


def collection(shown: Collection) -> Markup:
    """A collection with its versions."""
    size = muted(f" {counted(shown.documents, 'document')}, {counted(shown.chunks, 'chunk')}")
    about = element("div", foreign(shown.description, 500)) if shown.description else ""
    return join((element("div", element("b", foreign(shown.name)), size), about, objects(shown.versions) or ""))


def status(shown: Status) -> Markup:
    """What runs, and what waits."""
    waiting = sum(queue.waiting for queue in shown.queues)
    letters = badge(counted(shown.dead_letters, "dead letter"), "bad") if shown.dead_letters else ""
    said = f"Queries waiting: {waiting:,}. Jobs waiting: {shown.jobs.waiting:,}. "
    warnings = [element("div", badge(warning, "warn")) for warning in shown.warnings[:MOST_ROWS]]
    return join((objects(shown.services) or muted("No service runs."), element("div", muted(said), letters), *warnings))


def _cell(value: object) -> Cell:
    match value:
        case Cell():
            return value
        case None:
            return Cell("")
        case datetime():
            return Cell(moment(value))
        case int():
            return Cell(f"{value:,}", number=True)
        case Markup():
            return Cell(value)
        case _:
            return Cell(foreign(str(value)) if value != "" else "")
