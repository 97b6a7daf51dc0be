"""What the HTTP API says of the platform's state, as typed, immutable models."""

from typing import Annotated

from pydantic import WithJsonSchema

from sluice.api.base import Schema, Sent, Timestamp, closed_set

__all__ = [
    "BrokerStatus",
    "JobsStatus",
    "LaneCounts",
    "Queue",
    "ServiceStatus",
    "StageStatus",
    "StageWork",
    "Status",
    "TimeBucket",
    "WindowStatus",
]


class BrokerStatus(Schema):
    url: str = ""
    version: str = ""


class LaneCounts(Schema):
    interactive: int = 0
    batch: int = 0


Counts = Annotated[
    LaneCounts,
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "integer"}}, mode="serialization"),
]


class TimeBucket(Schema):
    """The messages whose work took more than `over` seconds and at most `up_to`; null is no bound."""

    over: float = 0.0
    up_to: float | None = None
    ended: int = 0


class StageWork(Schema):
    """What a stage of one process has done since the process started: messages that ended, those of them that failed,
    the seconds for which they waited and were in work, and how the latter are spread. The difference between two looks
    gives rates, means and percentiles. Buckets without a message are left out."""

    ended: int = 0
    failed: int = 0
    waited_seconds: float = 0.0
    worked_seconds: float = 0.0
    worked_buckets: tuple[TimeBucket, ...] = ()


class StageStatus(Schema):
    """One stage that a service's worker serves: what it has in flight by lane, of at most `room` together, and its
    `work`, where it is counted."""

    stage: str
    variant: str = "default"
    lane_in_flight: Counts = LaneCounts()
    room: Sent[int] = None
    model: str = ""
    work: StageWork | None = None


class WindowStatus(Schema):
    """The queries of a gateway by lane: those in flight, of about `room` in each lane, and those that wait for their
    tenant's turn."""

    in_flight: Counts = LaneCounts()
    waiting: Counts = LaneCounts()
    room: int = 0


class ServiceStatus(Schema):
    """One process; a gateway with its `window`."""

    service: str
    instance: str = ""
    version: str = ""
    ready: bool = False
    started_at: Sent[Timestamp] = None
    stages: tuple[StageStatus, ...] = ()
    window: WindowStatus | None = None


class Queue(Schema):
    stage: str
    variant: str = "default"
    lane: Annotated[str, closed_set("interactive", "batch")] = "interactive"
    waiting: int = 0
    in_flight: int = 0


class JobsStatus(Schema):
    waiting: int = 0
    in_flight: int = 0


class Status(Schema):
    """`warnings` are for a person to read: routes to variants that have no worker."""

    version: str = ""
    broker: BrokerStatus = BrokerStatus()
    services: tuple[ServiceStatus, ...] = ()
    queues: tuple[Queue, ...] = ()
    jobs: JobsStatus = JobsStatus()
    dead_letters: int = 0
    warnings: tuple[str, ...] = ()
