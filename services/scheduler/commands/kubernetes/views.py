"""The fields of Jobs and Pods that Sluice reads. It ignores all others."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from services.scheduler.commands.kubernetes.manifest import CONTAINER, JOB, TENANT

__all__ = ["EventView", "JobView", "Object", "PodView"]

Object = Mapping[str, Any]
"""A Kubernetes object as JSON."""

INDEX: Final = "batch.kubernetes.io/job-completion-index"

STUCK: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
    }
)
"""Reasons for which a container waits that seldom pass by themselves."""

_PREFIX: Final = re.compile(r'^(\(combined from similar events\): )?Error creating: (pods "[^"]*" is )?')
"""What the Job controller writes before a reason. The Pod's name in it differs each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A Job. `failure` is the reason and message of its end, where it has failed."""

    name: str
    job: str
    tenant: str
    succeeded: int
    complete: bool
    failure: tuple[str, str] | None

    @property
    def ended(self) -> bool:
        return self.complete or self.failure is not None

    @classmethod
    def of(cls, thing: Object) -> Self:
        status = thing.get("status") or {}
        true = {entry["type"]: entry for entry in status.get("conditions") or () if entry["status"] == "True"}
        failed = true.get("Failed")
        return cls.named(
            thing,
            succeeded=status.get("succeeded") or 0,
            complete="Complete" in true,
            failure=None if failed is None else (failed.get("reason") or "", failed.get("message") or ""),
        )

    @classmethod
    def named(cls, thing: Object, *, succeeded: int, complete: bool, failure: tuple[str, str] | None) -> Self:
        """With what its metadata says: whose it is."""
        metadata = thing["metadata"]
        annotations = metadata.get("annotations") or {}
        return cls(
            name=metadata["name"],
            job=annotations.get(JOB, ""),
            tenant=annotations.get(TENANT, ""),
            succeeded=succeeded,
            complete=complete,
            failure=failure,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A Pod and the container that counts. `started` says that there is a log, `finished` that nothing is added to it.

    `waiting` is what it waits for, in words: `unscheduled` says that it is a node, `stuck` that it seldom passes.
    """

    name: str
    index: int | None
    started: bool
    finished: bool
    failed: bool
    exit_code: int | None
    reason: str
    message: str
    waiting: str
    stuck: bool
    unscheduled: bool

    @property
    def explained(self) -> bool:
        """Whether its status says why it has not started, or it has."""
        return self.started or self.finished or self.stuck or self.unscheduled

    @classmethod
    def of(cls, thing: Object, container: str = CONTAINER) -> Self:
        metadata, status = thing["metadata"], thing.get("status") or {}
        index = (metadata.get("annotations") or {}).get(INDEX)
        containers = {entry["name"]: entry.get("state") or {} for entry in status.get("containerStatuses") or ()}
        state = containers.get(container, {})
        ended: Object = state.get("terminated") or {}
        waiting: Object = state.get("waiting") or {}
        node = _without_node(status)
        return cls(
            name=metadata["name"],
            index=None if index is None else int(index),
            started=bool(ended) or "running" in state,
            finished=bool(ended) or status.get("phase") in ("Succeeded", "Failed"),
            failed=status.get("phase") == "Failed",
            exit_code=ended.get("exitCode"),
            reason=ended.get("reason") or status.get("reason") or "",
            message=ended.get("message") or status.get("message") or "",
            waiting=f"waiting for a node: {node}" if node is not None else _starting(waiting),
            stuck=waiting.get("reason") in STUCK,
            unscheduled=node is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An Event about a Job or a Pod. `version` changes when it happens again; `time` is the last, as ISO 8601."""

    reason: str
    message: str
    version: str
    time: str

    @classmethod
    def of(cls, thing: Object) -> Self:
        metadata, series = thing["metadata"], thing.get("series") or {}
        times = (series.get("lastObservedTime"), thing.get("lastTimestamp"), thing.get("eventTime"))
        return cls(
            reason=thing.get("reason") or "",
            message=_PREFIX.sub("", thing.get("message") or ""),
            version=metadata["resourceVersion"],
            time=next(filter(None, times), "") or metadata.get("creationTimestamp") or "",
        )


def _without_node(status: Object) -> str | None:
    """Why no node takes a Pod; None if one does, or if no scheduler has looked at it."""
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("message") or condition.get("reason") or ""
    return None


def _starting(container: Object) -> str:
    if not container:
        return ""
    reason, message = container.get("reason") or "", container.get("message") or ""
    return f"starting: {reason}: {message}" if message else f"starting: {reason}"
