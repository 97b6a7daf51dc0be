"""The whole topology: every stream, consumer and bucket, created idempotently in this one place.

Every service calls `ensure` when it starts and after each reconnection, so no service and no autoscaler ever finds a
part missing, in whatever order things come up. `QUERIES` lives in the broker's memory and is gone after a restart of
a single broker: a process that finds it missing makes it again. A process whose credential may not make a part waits
for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, KeyValueConfig, ObjectStoreConfig, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError

from shared.nats.errors import MEMORY_RESERVED, is_in_other_storage
from shared.nats.settings import QueueSettings
from shared.nats.streams import MAX_CONSUMERS, buckets, cache_stream, durable_streams, join_bucket, query_stream, stores
from shared.nats.subjects import (
    ARTIFACTS,
    BATCHES,
    CACHE,
    CHECKPOINTS,
    COLLECTIONS,
    DEAD_LETTERS,
    DOCUMENTS,
    DUE,
    EVERYTHING,
    FILES,
    JOB_EVENTS,
    JOB_SPECS,
    JOB_STATUS,
    JOBS,
    JOINS,
    KEYS,
    ORIGINALS,
    QUERIES,
    ROUTES,
    SCHEDULES,
    STEP_CACHE,
    TIMERS,
    UPLOADS,
    VECTORS,
    StageQueue,
    StreamOwnership,
    bucket_stream,
    query_subject,
    store_stream,
)

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
    "RESTORING",
    "ROUTES",
    "SCHEDULES",
    "STEP_CACHE",
    "TIMERS",
    "UPLOADS",
    "VECTORS",
    "MissingStreamError",
    "StageQueue",
    "Topology",
    "job_consumer",
    "query_subject",
]

NAME_IN_USE = 10058
MAX_WAITING_PULLS = 8192
MAX_IN_FLIGHT = 65_536
IDLE_JOB_CONSUMER = 3600.0

DUPLICATE_WINDOW: Final = 120.0
"""Seconds for which the client has the broker know messages of a bucket by their ids."""

LOOK: Final = 0.2
"""Seconds between looks for what others make."""

ANSWER_TIMEOUT: Final = 5.0
"""Seconds in which others must have made again what was lost."""

RESTORING: Final = "sluice.restoring"
"""Metadata of the stream of jobs while a backup is being restored: the backup's name."""

MAKES_ALL: Final = StreamOwnership(makes=EVERYTHING)


class MissingStreamError(TimeoutError):
    """Others have not made in time what this process needs."""


class Topology:
    """Creates what is missing and updates what differs; safe to call from any number of processes at once.

    `ownership` says which streams this process makes, and which it waits for.
    """

    def __init__(
        self, jetstream: JetStreamContext, settings: QueueSettings, ownership: StreamOwnership = MAKES_ALL
    ) -> None:
        self._js = jetstream
        self._settings = settings
        self._ownership = ownership
        self._queues: dict[str, StageQueue] = {}
        self._rounds = _Rounds(self._make_all)
        self._query_rounds = _Rounds(self._make_queries)

    async def ensure(self) -> None:
        """Create every stream, bucket and known consumer. Raises nats errors when the broker cannot, and
        MissingStreamError.

        Many calls at once are one round of requests, or two.
        """
        await self._rounds.run()

    async def ensure_queries(self) -> None:
        """Create what a broker that restarts may have lost: the stream of queries, and its known consumers. Raises as
        `ensure` does.

        Many calls at once are one round of requests, or two.
        """
        await self._query_rounds.run()

    async def ensure_queues(self, queues: Iterable[StageQueue]) -> None:
        """Create these queues' consumers, and remember them for the next `ensure`. Raises as that does."""
        give_up = time.monotonic() + ANSWER_TIMEOUT
        await self._ensure_volatile()
        for queue in queues:
            self._queues[queue.consumer] = queue
            await self._ensure_queue(queue, give_up)

    async def ensure_job_consumer(self, subject: str, *, lasting: bool = True) -> str:
        """Create the consumer of the jobs on `job.<kind>.<priority>.<tenant>`; it goes when nobody uses it for long.

        One that is not `lasting` is kept in the broker's memory, at a quarter of the cost. A broker that restarts
        forgets it, and delivers jobs that are in work once more.
        """
        name = job_consumer(subject)
        config = self._consumer(name, subject)
        config.inactive_threshold = IDLE_JOB_CONSUMER
        config.mem_storage = not lasting
        try:
            await self._ensure_consumer(JOBS, config)
        except APIError as error:
            if not is_in_other_storage(error):
                raise
            # Another release has made it there. It goes once it is empty.
            config.mem_storage = lasting
            await self._ensure_consumer(JOBS, config)
        return name

    async def ensure_event_consumer(self, name: str) -> None:
        """Create a durable consumer of the events of all jobs, from the oldest on; it goes when nobody has used it for
        as long as the events are kept."""
        config = self._consumer(name, "event.job.*.*")
        config.inactive_threshold = self._settings.history_seconds
        await self._ensure_consumer(JOB_EVENTS, config)

    async def ensure_record_consumer(self, bucket: str, name: str) -> None:
        """Create a durable consumer of a bucket's records, as they are and as they change; it goes when nobody has used
        it for as long as events are kept."""
        config = self._consumer(name, f"$KV.{bucket}.>")
        config.deliver_policy = DeliverPolicy.LAST_PER_SUBJECT
        config.inactive_threshold = self._settings.history_seconds
        await self._ensure_consumer(bucket_stream(bucket), config)

    async def _make_all(self) -> None:
        await self._make()
        give_up = time.monotonic() + ANSWER_TIMEOUT
        for stream in sorted(self._ownership.needs - self._ownership.makes):
            await _there(partial(self._js.stream_info, stream), stream, give_up)
        for queue in list(self._queues.values()):
            await self._ensure_queue(queue, give_up)

    async def _make_queries(self) -> None:
        await self.ensure_queues(list(self._queues.values()))

    async def _make(self) -> None:
        makes = self._ownership.makes
        if JOBS in makes:
            await self._check_restored()
        await self._ensure_volatile()
        for stream in durable_streams(self._settings):
            if stream.name in makes:
                await self._ensure_stream(stream)
        if TIMERS in makes:
            await self._ensure_consumer(TIMERS, self._consumer(DUE, "due.>"))
        for bucket in buckets(self._settings):
            if bucket_stream(bucket.bucket) in makes:
                await self._ensure_bucket(bucket)
        for store in stores(self._settings):
            if store_stream(str(store.bucket)) in makes:
                await self._ensure_store(store)

    async def _check_restored(self) -> None:
        """What a restore has not brought back yet must not be made empty. Raises MissingStreamError."""
        try:
            config = (await self._js.stream_info(JOBS)).config
        except NotFoundError:
            return
        if backup := (config.metadata or {}).get(RESTORING):
            raise MissingStreamError(f"the backup {backup} is being restored; if that was interrupted, run it again")

    def _consumer(self, name: str, subject: str, *, exclusive: bool = False) -> ConsumerConfig:
        # The delivery limit is the runtime's, not the broker's: the runtime writes the dead letter with its reason.
        return ConsumerConfig(
            # With a name the request names the filter too, so that a credential can be held to its own.
            name=name,
            durable_name=name,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._settings.ack_wait,
            max_deliver=-1,
            max_ack_pending=1 if exclusive else MAX_IN_FLIGHT,
            max_waiting=MAX_WAITING_PULLS,
        )

    async def _ensure_queue(self, queue: StageQueue, give_up: float) -> None:
        config = self._consumer(queue.consumer, queue.filter, exclusive=queue.exclusive)
        await _there(partial(self._ensure_consumer, QUERIES, config), QUERIES, give_up)

    async def _ensure_consumer(self, stream: str, config: ConsumerConfig) -> None:
        await self._js.add_consumer(stream, config)

    async def _ensure_volatile(self) -> None:
        if QUERIES in self._ownership.makes:
            await self._ensure_queries()
        if bucket_stream(JOINS) in self._ownership.makes:
            await self._ensure_bucket(join_bucket(self._settings))
        if CACHE in self._ownership.makes:
            await self._ensure_stream(cache_stream(self._settings))

    async def _ensure_queries(self) -> None:
        """Create the stream of queries with numbers that no message has had before, or update it.

        The broker takes an acknowledgement by the message's number. Were the numbers to begin again after it lost its
        memory, work from before would acknowledge, and so remove, queries of now. Microseconds of the clock go up
        faster than messages can come.
        """
        config = query_stream(self._settings)
        config.first_seq = time.time_ns() // 1000
        await self._ensure_stream(config)

    async def _ensure_stream(self, config: StreamConfig) -> None:
        """The broker asks for room for a stream before it looks whether it has it already, so it is asked for none that
        is there."""
        if not await self._update_stream(config):
            try:
                await _with_memory(partial(self._js.add_stream, config))
            except BadRequestError as error:
                if error.err_code != NAME_IN_USE:
                    raise
                await self._update_stream(config)

    async def _update_stream(self, config: StreamConfig) -> bool:
        """As `_adapt`, by all that the configuration names. Where its numbers begin is decided when it is made."""
        named = {each.name: getattr(config, each.name) for each in fields(config) if each.name != "first_seq"}
        return await self._adapt(str(config.name), {name: value for name, value in named.items() if value is not None})

    async def _ensure_bucket(self, config: KeyValueConfig) -> None:
        stream = bucket_stream(config.bucket)
        if not await self._update_store(stream, config.ttl, config.max_bytes):
            await self._tolerate_race(_with_memory(partial(self._js.create_key_value, config)))
            await self._update_store(stream, config.ttl)  # the client names no number of consumers

    async def _ensure_store(self, config: ObjectStoreConfig) -> None:
        stream = store_stream(str(config.bucket))
        if not await self._update_store(stream, config.ttl):
            await self._tolerate_race(self._js.create_object_store(str(config.bucket), config))
            await self._update_store(stream, config.ttl)

    async def _update_store(self, stream: str, ttl: float | None, max_bytes: int | None = None) -> bool:
        wanted: dict[str, object] = {
            "max_age": float(ttl or 0),
            "num_replicas": self._settings.replicas,
            "max_consumers": MAX_CONSUMERS,
            **({"max_bytes": max_bytes} if max_bytes else {}),
            # The broker keeps no ids of messages for longer than the messages.
            **({"duplicate_window": min(DUPLICATE_WINDOW, ttl)} if ttl else {}),
        }
        return await self._adapt(stream, wanted)

    async def _adapt(self, stream: str, wanted: Mapping[str, object]) -> bool:
        """Bring a stream in line with the settings; returns whether there is one."""
        try:
            config = (await self._js.stream_info(stream)).config
        except NotFoundError:
            return False
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


def job_consumer(subject: str) -> str:
    """The name of the consumer of a subject of jobs."""
    return subject.removeprefix("job.").replace(".", "_")


class _Rounds:
    """Work that many ask for at once, done for all of them together: by a round that begins after they have asked."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._lock = asyncio.Lock()
        self._begun = 0
        self._ended = 0
        self._error: Exception | None = None

    async def run(self) -> None:
        """Raises what the round raises."""
        asked = self._begun
        async with self._lock:
            if self._ended > asked:
                if self._error is not None:
                    raise self._error
                return
            self._begun += 1
            begun, self._error = self._begun, None
            try:
                await self._work()
            except Exception as error:
                self._ended, self._error = begun, error
                raise
            self._ended = begun  # unless it was cancelled: then whoever is next makes another round


async def _with_memory(make: Callable[[], Awaitable[object]]) -> None:
    """Make a stream, again where others that make it at the same moment take the memory for it meanwhile."""
    give_up = time.monotonic() + ANSWER_TIMEOUT
    while True:
        try:
            await make()
        except APIError as error:
            if error.err_code != MEMORY_RESERVED or time.monotonic() > give_up:
                raise
            await asyncio.sleep(LOOK)
        else:
            return


async def _there(look: Callable[[], Awaitable[object]], stream: str, give_up: float) -> None:
    """Look until the stream is there. Raises MissingStreamError at the time `give_up`."""
    while True:
        try:
            await look()
        except NotFoundError:
            if time.monotonic() > give_up:
                raise MissingStreamError(
                    f"the broker has no stream {stream}, and this credential may not make it: "
                    "the scheduler makes all streams, and a gateway makes QUERIES; is one running?"
                ) from None
            await asyncio.sleep(LOOK)
        else:
            return
