"""The whole topology: every stream, consumer and bucket, created idempotently in this one place.

Every service calls `ensure` when it starts and after each reconnection, so no service and no autoscaler ever finds a
part missing, in whatever order things come up. `QUERIES` lives in the broker's memory and is gone after a restart of
a single broker: whoever finds it missing makes it again.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    KeyValueConfig,
    ObjectStoreConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, BadRequestError, NotFoundError

from shared.envelope import Lane, Query
from shared.settings import QueueSettings

__all__ = [
    "ARTIFACTS",
    "BATCHES",
    "CHECKPOINTS",
    "COLLECTIONS",
    "DEAD_LETTERS",
    "DOCUMENTS",
    "FILES",
    "JOBS",
    "JOB_EVENTS",
    "JOB_SPECS",
    "JOB_STATUS",
    "KEYS",
    "DUE",
    "ORIGINALS",
    "QUERIES",
    "ROUTES",
    "SCHEDULES",
    "STEP_CACHE",
    "TIMERS",
    "UPLOADS",
    "VECTORS",
    "StageQueue",
    "Topology",
    "query_subject",
]

QUERIES = "QUERIES"
JOBS = "JOBS"
JOB_EVENTS = "JOB_EVENTS"
DEAD_LETTERS = "DEAD_LETTERS"
TIMERS = "TIMERS"

JOB_STATUS = "jobs"
JOB_SPECS = "job-specs"
COLLECTIONS = "collections"
DOCUMENTS = "documents"
ROUTES = "routes"
KEYS = "keys"
SCHEDULES = "schedules"
STEP_CACHE = "step-cache"
CHECKPOINTS = "checkpoints"
FILES = "files"
BATCHES = "batches"

UPLOADS = "uploads"
VECTORS = "vectors"
ORIGINALS = "originals"
ARTIFACTS = "artifacts"

NAME_IN_USE = 10058
MAX_WAITING_PULLS = 8192
MAX_IN_FLIGHT = 65_536
IDLE_JOB_CONSUMER = 3600.0

DUE = "due"
"""The consumer of what the timers have made due."""


def query_subject(query: Query) -> str:
    """Where a query goes to reach the stop at the head of its slip."""
    stop = query.stop
    return f"query.{stop.stage}.{stop.variant}.{query.lane}.{query.tenant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageQueue:
    """One stage variant's queue in one lane. `exclusive`: at most one message is in work, over all replicas."""

    stage: str
    variant: str
    lane: Lane
    exclusive: bool = False

    @property
    def consumer(self) -> str:
        return f"{self.stage}_{self.variant}_{self.lane}"

    @property
    def filter(self) -> str:
        return f"query.{self.stage}.{self.variant}.{self.lane}.*"


class Topology:
    """Creates what is missing and updates what differs; safe to call from any number of processes at once."""

    def __init__(self, jetstream: JetStreamContext, settings: QueueSettings) -> None:
        self._js = jetstream
        self._settings = settings
        self._queues: dict[str, StageQueue] = {}
        self._lock = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def ensure(self) -> None:
        """Create every stream, bucket and known consumer. Raises nats errors when the broker cannot.

        Many calls at once are one round of requests, or two.
        """
        asked = self._begun
        async with self._lock:
            if self._done > asked:
                return  # a round that began after this call has made everything
            self._begun += 1
            begun = self._begun
            await self._ensure_queries()
            for stream in self._durable_streams():
                await self._ensure_stream(stream)
            await self._ensure_consumer(TIMERS, self._consumer(DUE, "due.>"))
            for bucket in self._buckets():
                await self._ensure_bucket(bucket)
            for store in self._stores():
                await self._ensure_store(store)
            for queue in self._queues.values():
                await self._ensure_queue(queue)
            self._done = begun

    async def ensure_queues(self, queues: Iterable[StageQueue]) -> None:
        """Create these queues' consumers, and remember them for the next `ensure`."""
        async with self._lock:
            await self._ensure_queries()
            for queue in queues:
                self._queues[queue.consumer] = queue
                await self._ensure_queue(queue)

    async def ensure_job_consumer(self, subject: str) -> str:
        """Create the consumer of the jobs on `job.<kind>.<priority>.<tenant>`; it goes when nobody uses it for long."""
        name = subject.removeprefix("job.").replace(".", "_")
        config = self._consumer(name, subject)
        config.inactive_threshold = IDLE_JOB_CONSUMER
        await self._ensure_consumer(JOBS, config)
        return name

    def _query_stream(self) -> StreamConfig:
        settings = self._settings
        return StreamConfig(
            name=QUERIES,
            subjects=["query.>"],
            storage=StorageType.MEMORY,
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=settings.queue_limit,
            max_bytes=settings.queue_bytes,
            max_age=settings.longest_deadline,
            duplicate_window=min(120.0, settings.longest_deadline),
            num_replicas=settings.replicas,
        )

    def _durable_streams(self) -> tuple[StreamConfig, ...]:
        settings = self._settings
        durable: dict[str, Any] = {"storage": StorageType.FILE, "num_replicas": settings.replicas}
        history: dict[str, Any] = {**durable, "max_age": settings.history_seconds, "max_bytes": 2**30}
        return (
            StreamConfig(
                name=JOBS,
                subjects=["job.*.*.*"],
                retention=RetentionPolicy.WORK_QUEUE,
                discard=DiscardPolicy.NEW,
                max_msgs=settings.job_limit,
                duplicate_window=600.0,
                **durable,
            ),
            StreamConfig(
                name=JOB_EVENTS,
                subjects=[f"event.job.*.{s}" for s in ("queued", "running", "succeeded", "failed", "cancelled")],
                **history,
            ),
            StreamConfig(name=DEAD_LETTERS, subjects=["dead.>"], **history),
            # What is due is published by the broker into the same stream, hence the two kinds of subjects.
            StreamConfig(
                name=TIMERS,
                subjects=["timer.>", "due.>"],
                retention=RetentionPolicy.WORK_QUEUE,
                allow_msg_schedules=True,
                **durable,
            ),
        )

    def _buckets(self) -> tuple[KeyValueConfig, ...]:
        replicas = self._settings.replicas
        return (
            *(
                KeyValueConfig(bucket=bucket, history=1, ttl=self._settings.history_seconds, replicas=replicas)
                for bucket in (JOB_STATUS, JOB_SPECS, CHECKPOINTS, STEP_CACHE, FILES, BATCHES)
            ),
            *(
                KeyValueConfig(bucket=bucket, history=1, replicas=replicas)
                for bucket in (COLLECTIONS, DOCUMENTS, ROUTES, KEYS, SCHEDULES)
            ),
        )

    def _stores(self) -> tuple[ObjectStoreConfig, ...]:
        settings = self._settings
        return (
            ObjectStoreConfig(bucket=UPLOADS, ttl=settings.upload_seconds, replicas=settings.replicas),
            ObjectStoreConfig(bucket=VECTORS, ttl=86400, replicas=settings.replicas),
            ObjectStoreConfig(bucket=ORIGINALS, replicas=settings.replicas),
            ObjectStoreConfig(bucket=ARTIFACTS, ttl=settings.history_seconds, replicas=settings.replicas),
        )

    def _consumer(self, name: str, subject: str, *, exclusive: bool = False) -> ConsumerConfig:
        # The delivery limit is the runtime's, not the broker's: the runtime writes the dead letter with its reason.
        return ConsumerConfig(
            durable_name=name,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._settings.ack_wait,
            max_deliver=-1,
            max_ack_pending=1 if exclusive else MAX_IN_FLIGHT,
            max_waiting=MAX_WAITING_PULLS,
        )

    async def _ensure_queue(self, queue: StageQueue) -> None:
        config = self._consumer(queue.consumer, queue.filter, exclusive=queue.exclusive)
        await self._ensure_consumer(QUERIES, config)

    async def _ensure_consumer(self, stream: str, config: ConsumerConfig) -> None:
        await self._js.add_consumer(stream, config)

    async def _ensure_queries(self) -> None:
        """Create the stream of queries with numbers that no message has had before, or update it.

        The broker takes an acknowledgement by the message's number. Were the numbers to begin again after it lost its
        memory, work from before would acknowledge, and so remove, queries of now. Microseconds of the clock go up
        faster than messages can come.
        """
        config = self._query_stream()
        try:
            config.first_seq = (await self._js.stream_info(QUERIES)).config.first_seq
        except NotFoundError:
            config.first_seq = time.time_ns() // 1000
        await self._ensure_stream(config)

    async def _ensure_stream(self, config: StreamConfig) -> None:
        try:
            await self._js.add_stream(config)
        except BadRequestError as error:
            if error.err_code != NAME_IN_USE:
                raise
            await self._js.update_stream(config)

    async def _ensure_bucket(self, config: KeyValueConfig) -> None:
        if not await self._update_store(f"KV_{config.bucket}", config.ttl):
            await self._tolerate_race(self._js.create_key_value(config))

    async def _ensure_store(self, config: ObjectStoreConfig) -> None:
        if not await self._update_store(f"OBJ_{config.bucket}", config.ttl):
            await self._tolerate_race(self._js.create_object_store(str(config.bucket), config))

    async def _update_store(self, stream: str, ttl: float | None) -> bool:
        """Bring a bucket's stream in line with the settings; tells whether there is one."""
        try:
            config = (await self._js.stream_info(stream)).config
        except NotFoundError:
            return False
        wanted = {"max_age": float(ttl or 0), "num_replicas": self._settings.replicas}
        if any(getattr(config, name) != value for name, value in wanted.items()):
            await self._js.update_stream(config, **wanted)
        return True

    @staticmethod
    async def _tolerate_race(creation: Awaitable[object]) -> None:
        """Another service may create the same bucket in the same moment; both ask for the same thing."""
        try:
            await creation
        except APIError as error:
            if error.err_code != NAME_IN_USE:
                raise
