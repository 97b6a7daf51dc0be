"""What each stream and bucket is like: what it holds, where, how much of it and for how long."""

from typing import Any, Final

from nats.js.api import DiscardPolicy, KeyValueConfig, ObjectStoreConfig, RetentionPolicy, StorageType, StreamConfig

from shared.nats.settings import QueueSettings
from shared.nats.subjects import (
    ANSWERS,
    ARTIFACTS,
    CACHE,
    CONVERSATIONS,
    DEAD_LETTERS,
    FEEDBACK,
    JOB_EVENTS,
    JOBS,
    JOINS,
    LASTING,
    MODEL_FILES,
    ORIGINALS,
    PASSING,
    PAYLOADS,
    QUERIES,
    TENSORS,
    TIMERS,
    TRAINING,
    UPLOADS,
    USAGE,
    VECTORS,
)

__all__ = ["MAX_CONSUMERS", "buckets", "cache_stream", "durable_streams", "join_bucket", "query_stream", "stores"]

DAY: Final = 86400.0

CHECKPOINT_DAYS: Final = 7
"""Days after which the checkpoints of a training that did not end are gone."""

MAX_CONSUMERS: Final = 100_000
"""Consumers that one stream may have. Where a stream names no number, the broker allows 1,000. A stream of jobs has one
for each kind, priority and tenant, and other streams one for each reader of the moment."""


def query_stream(settings: QueueSettings) -> StreamConfig:
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
        max_consumers=MAX_CONSUMERS,
    )


def cache_stream(settings: QueueSettings) -> StreamConfig:
    """What steps of pipelines have found, each for as long as its message says; the oldest make room."""
    return StreamConfig(
        name=CACHE,
        subjects=["cache.*"],
        storage=StorageType.MEMORY,
        discard=DiscardPolicy.OLD,
        max_msgs_per_subject=1,
        max_bytes=settings.queue_bytes // 8,
        max_age=DAY,
        allow_msg_ttl=True,
        allow_direct=True,
        num_replicas=settings.replicas,
        max_consumers=MAX_CONSUMERS,
    )


def join_bucket(settings: QueueSettings) -> KeyValueConfig:
    """What is known of queries that are in parallel branches: as volatile as the queries."""
    return KeyValueConfig(
        bucket=JOINS,
        history=1,
        ttl=settings.longest_deadline,
        max_bytes=settings.queue_bytes // 8,
        storage=StorageType.MEMORY,
        replicas=settings.replicas,
    )


def durable_streams(settings: QueueSettings) -> tuple[StreamConfig, ...]:
    durable: dict[str, Any] = {
        "storage": StorageType.FILE,
        "num_replicas": settings.replicas,
        "max_consumers": MAX_CONSUMERS,
    }
    history: dict[str, Any] = {**durable, "max_age": settings.history_seconds, "max_bytes": settings.history_bytes}
    return (
        StreamConfig(
            name=JOBS,
            subjects=["job.*.*.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_msgs=settings.job_limit,
            max_msgs_per_subject=settings.job_tenant_limit,
            discard_new_per_subject=True,
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
        StreamConfig(
            name=PAYLOADS,
            subjects=["payload.*.*.*"],
            max_age=settings.payload_days * DAY,
            max_bytes=min(settings.payload_bytes, settings.history_bytes),
            **durable,
        ),
    )


def buckets(settings: QueueSettings) -> tuple[KeyValueConfig, ...]:
    replicas = settings.replicas
    return (
        *(
            KeyValueConfig(bucket=bucket, history=1, ttl=settings.history_seconds, replicas=replicas)
            for bucket in PASSING
        ),
        *(KeyValueConfig(bucket=bucket, history=1, replicas=replicas) for bucket in LASTING),
        KeyValueConfig(bucket=CONVERSATIONS, history=1, ttl=settings.conversation_seconds, replicas=replicas),
        *(
            KeyValueConfig(bucket=bucket, history=1, ttl=days * DAY, replicas=replicas)
            for bucket, days in (
                (USAGE, settings.usage_days),
                (ANSWERS, settings.answer_days),
                (FEEDBACK, settings.feedback_days),
            )
        ),
    )


def stores(settings: QueueSettings) -> tuple[ObjectStoreConfig, ...]:
    return (
        ObjectStoreConfig(bucket=UPLOADS, ttl=settings.upload_seconds, replicas=settings.replicas),
        ObjectStoreConfig(bucket=VECTORS, ttl=min(DAY, settings.history_seconds), replicas=settings.replicas),
        ObjectStoreConfig(bucket=ORIGINALS, replicas=settings.replicas),
        ObjectStoreConfig(bucket=ARTIFACTS, ttl=settings.history_seconds, replicas=settings.replicas),
        ObjectStoreConfig(bucket=TENSORS, ttl=2 * settings.longest_deadline, replicas=settings.replicas),
        ObjectStoreConfig(bucket=MODEL_FILES, replicas=settings.replicas),
        ObjectStoreConfig(bucket=TRAINING, ttl=CHECKPOINT_DAYS * DAY, replicas=settings.replicas),
    )
