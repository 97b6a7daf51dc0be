"""Building blocks of what a credential may do on the broker: each in words, and as the subjects that it takes.

Subjects of JetStream's API name the stream and the consumer, so that a credential reaches only its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from shared.contracts.envelope import Lane
from shared.nats.subjects import (
    BUILT_IN_QUEUES,
    DEAD_LETTERS,
    JOB_EVENTS,
    PAYLOADS,
    QUERIES,
    TIMERS,
    StageQueue,
    bucket_stream,
    store_stream,
)

__all__ = [
    "API",
    "Permission",
    "backs_up",
    "inbox_prefix",
    "keeps_job_events",
    "keeps_payloads",
    "keeps_timers",
    "looks_at",
    "looks_up_records",
    "makes",
    "names",
    "reads_buckets",
    "reads_dead_letters",
    "reads_objects",
    "reads_payloads",
    "works_on",
    "writes_buckets",
    "writes_objects",
]

API: Final = "$JS.API"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Something that a credential may do, in words and as subjects."""

    says: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    not_subscribe: tuple[str, ...] = ()


def inbox_prefix(role: str) -> str:
    """Where the answers to a credential's requests go; nobody else may listen there."""
    return f"_INBOX_{role}"


def works_on(stage: str, variants: Iterable[str]) -> Permission:
    queues = [StageQueue(stage=stage, variant=variant, lane=lane) for variant in variants for lane in Lane]
    taking = [
        (
            f"{API}.CONSUMER.CREATE.{QUERIES}.{queue.consumer}.{queue.filter}",
            f"{API}.CONSUMER.MSG.NEXT.{QUERIES}.{queue.consumer}",
            f"$JS.ACK.{QUERIES}.{queue.consumer}.>",
        )
        for queue in queues
    ]
    return Permission(
        says=f"takes queries of `{stage}`, variants {names(variants)}",
        publish=(*chain.from_iterable(taking), f"dead.query.{stage}.>"),
    )


def makes(*streams: str) -> Permission:
    says = "every stream and bucket" if len(streams) > 1 else f"the stream {names(streams)}"
    calls = ("CREATE", "UPDATE", "INFO")
    return Permission(
        says=f"makes {says}", publish=tuple(f"{API}.STREAM.{call}.{name}" for name in streams for call in calls)
    )


def keeps_job_events() -> Permission:
    return Permission(
        says="writes and reads the events of jobs",
        publish=("event.job.*.*", *_reads(JOB_EVENTS)),
        subscribe=("event.job.*.*",),
    )


def keeps_payloads() -> Permission:
    return Permission(
        says="logs payloads of models, reads and removes them",
        publish=("payload.*.*.*", *_reads(PAYLOADS), f"{API}.STREAM.MSG.DELETE.{PAYLOADS}"),
    )


def reads_payloads() -> Permission:
    return Permission(says="reads payloads of models", publish=_reads(PAYLOADS))


def reads_dead_letters() -> Permission:
    return Permission(
        says="reads and removes dead letters",
        publish=(*_reads(DEAD_LETTERS), f"{API}.STREAM.MSG.DELETE.{DEAD_LETTERS}"),
    )


def keeps_timers(*subjects: str) -> Permission:
    calls = (f"{API}.STREAM.INFO.{TIMERS}", f"{API}.STREAM.PURGE.{TIMERS}")
    return Permission(says="sets timers", publish=(*subjects, *calls))


def reads_buckets(*buckets: str) -> Permission:
    reading = tuple(chain.from_iterable(_reads(bucket_stream(bucket)) for bucket in buckets))
    noun = "bucket" if len(buckets) == 1 else "buckets"
    return Permission(says=f"reads the {noun} {names(buckets)}", publish=reading)


def writes_buckets(*buckets: str) -> Permission:
    writing = tuple(f"$KV.{bucket}.>" for bucket in buckets)
    return Permission(
        says=f"reads and writes the buckets {names(buckets)}",
        publish=(*reads_buckets(*buckets).publish, *writing),
    )


def looks_up_records(bucket: str) -> Permission:
    """Single records by their keys. No readers of one's own, which would be given all of them."""
    stream = bucket_stream(bucket)
    calls = (f"STREAM.INFO.{stream}", f"STREAM.MSG.GET.{stream}", f"DIRECT.GET.{stream}", f"DIRECT.GET.{stream}.>")
    return Permission(
        says=f"looks up and writes single records of the bucket {names((bucket,))}",
        publish=(*(f"{API}.{call}" for call in calls), f"$KV.{bucket}.>"),
    )


def reads_objects(*stores: str) -> Permission:
    reading = chain.from_iterable(_reads(store_stream(store)) for store in stores)
    # Before it reads an object the client asks which stream has it.
    return Permission(says=f"reads the objects in {names(stores)}", publish=(*reading, f"{API}.STREAM.NAMES"))


def writes_objects(*stores: str) -> Permission:
    writing = [(f"$O.{store}.>", f"{API}.STREAM.PURGE.{store_stream(store)}") for store in stores]
    return Permission(
        says=f"reads and writes the objects in {names(stores)}",
        publish=(*reads_objects(*stores).publish, *chain.from_iterable(writing)),
    )


def _reads(stream: str) -> tuple[str, ...]:
    """What reading a stream takes that is nobody's queue: single messages, and readers of one's own."""
    return (
        f"{API}.STREAM.INFO.{stream}",
        f"{API}.STREAM.MSG.GET.{stream}",
        f"{API}.DIRECT.GET.{stream}",
        f"{API}.DIRECT.GET.{stream}.>",
        f"{API}.CONSUMER.CREATE.{stream}",
        f"{API}.CONSUMER.CREATE.{stream}.>",
        f"{API}.CONSUMER.INFO.{stream}.*",
        f"{API}.CONSUMER.DELETE.{stream}.*",
        f"{API}.CONSUMER.MSG.NEXT.{stream}.*",
        f"$JS.FC.{stream}.>",
    )


def backs_up(*streams: str) -> tuple[Permission, ...]:
    """What a backup of these streams takes. Where one writer changes something at a time, it is held meanwhile."""
    held = [queue.consumer for queue in BUILT_IN_QUEUES if queue.exclusive]
    calls = [f"{API}.CONSUMER.{call}.{QUERIES}.{queue}" for queue in held for call in ("PAUSE", "INFO")]
    copying = [f"{API}.STREAM.{call}.{stream}" for stream in streams for call in ("SNAPSHOT", "INFO")]
    return (
        Permission(says="copies every stream and bucket on disk", publish=(*copying, "$JS.SNAPSHOT.ACK.>")),
        Permission(says="holds changes of the index meanwhile", publish=tuple(calls)),
        Permission(says="receives the replies to its own requests", subscribe=(f"{inbox_prefix('backup')}.>",)),
    )


def looks_at(*streams: str) -> Permission:
    calls = chain.from_iterable((f"STREAM.INFO.{s}", f"CONSUMER.LIST.{s}", f"CONSUMER.INFO.{s}.*") for s in streams)
    return Permission(says="looks at the queues", publish=tuple(f"{API}.{call}" for call in calls))


def names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
