"""A job worker whose jobs, of the kinds `drop` and `delete`, each leave one mark in the bucket `marks`.

A `delete` of the document `poison` fails at every try.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from nats.js.api import KeyValueConfig
from nats.js.errors import APIError, KeyWrongLastSequenceError

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobKind, Pool
from services.scheduler.jobs.queue import JobQueue
from services.scheduler.jobs.retry import forward_due_retry
from services.scheduler.jobs.runner import JobRunner
from services.scheduler.schedules.timers import TimerWorker
from shared.contracts.jobs import DeleteSpec
from shared.service.process import main
from shared.service.service import ASGIApp, Service, Worker
from shared.service.settings import ServiceSettings
from shared.stores.artifacts import Artifacts
from shared.stores.dead_letters import DeadLetters
from shared.stores.jobs.store import JobStore, cancel_subject

MARKS = "marks"


def make(settings: ServiceSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[list[Worker]]:
        bus = service.bus
        with suppress(APIError):
            await bus.jetstream.create_key_value(KeyValueConfig(bucket=MARKS, replicas=settings.replicas))
        marks = await bus.jetstream.key_value(MARKS)

        async def leave_mark(run: JobContext) -> None:
            if isinstance(run.spec, DeleteSpec) and run.spec.documents == ("poison",):
                raise RuntimeError("a poison job")
            with suppress(KeyWrongLastSequenceError):  # an earlier try got this far
                await marks.create(run.job.id, settings.instance.encode())

        kinds = {name: JobKind(name=name, pool=Pool.SHORT, perform=leave_mark) for name in ("drop", "delete")}
        runner = JobRunner(
            bus,
            JobStore(bus.client, bus.jetstream),
            Artifacts(bus.jetstream),
            DeadLetters(bus.client, bus.jetstream),
            kinds,
            max_crashes=50,
            instance=settings.instance,
            ack_wait=settings.ack_wait,
        )
        await bus.client.subscribe(cancel_subject("*"), cb=runner.hear_cancel)
        queue = JobQueue(
            bus,
            kinds,
            handle=runner.handle,
            give_back=runner.give_back,
            slots={Pool.SHORT: 16},
            ack_wait=settings.ack_wait,
        )
        due = TimerWorker(bus, {"retry": partial(forward_due_retry, bus.jetstream)}, ack_wait=settings.ack_wait)
        yield [queue, due]

    service = Service("counting", settings, setup)
    return service, service.asgi()


if __name__ == "__main__":
    main("counting", ServiceSettings, make)
