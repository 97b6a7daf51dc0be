"""The response that follows a job until it ends."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

import anyio
from nats.errors import Error as NatsError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.http.problems import problem_body
from services.gateway.http.sse import PING_SECONDS, Channel, client_disconnect
from services.gateway.jobs.notifier import JobNotifier
from shared.contracts.jobs import Job
from shared.contracts.problems import Problem
from shared.stores.jobs.store import JobStore

__all__ = ["JobEventStream"]

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
"""Seconds between reads of the job, as an event may be lost."""


class JobEventStream(Response):
    """Events `progress` with the job as it is now and at each change, then `end` with the ended job.

    The stream also ends when the gateway stops; the client then connects again, elsewhere.
    """

    def __init__(self, jobs: JobStore, notifier: JobNotifier, job: Job) -> None:
        super().__init__()
        self._jobs = jobs
        self._notifier = notifier
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        channel = Channel(send)
        # A cancelled scope cancels again until it is left: a library may swallow a cancellation that meets a result.
        async with client_disconnect(scope, receive) as departure:
            with anyio.CancelScope() as following:
                departure.listen(following.cancel)
                await self._follow(channel)
                await channel.close()

    async def _follow(self, channel: Channel) -> None:
        job, sent, sent_at = self._job, None, time.monotonic()
        with self._notifier.listen(job.id) as changed:
            # The job may have changed before the subscription, so the first read comes at once.
            changed.set()
            while True:
                if job != sent:
                    await channel.event("end" if job.state.ended else "progress", job.model_dump_json().encode())
                    sent, sent_at = job, time.monotonic()
                elif time.monotonic() - sent_at >= PING_SECONDS:
                    await channel.ping()
                    sent_at = time.monotonic()
                if job.state.ended or self._notifier.closed:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), POLL_SECONDS)
                changed.clear()
                try:
                    job = await self._read(job)
                except Problem as problem:
                    await channel.event("error", problem_body(problem))
                    return

    async def _read(self, known: Job) -> Job:
        try:
            return await self._jobs.get(known.tenant, known.id)
        except (NatsError, TimeoutError) as error:
            log.warning("cannot read a job, will try again: %r", error)
            return known
