"""Notifies pipelines of the state changes of their jobs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

__all__ = ["Inbox", "JobNotifier"]


@dataclass(slots=True)
class Inbox:
    """The changes of these jobs. Events may be lost, so a reader also looks without one now and then."""

    jobs: set[str]
    changed: set[str] = field(default_factory=set)
    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, timeout: float) -> set[str] | None:
        """The jobs that have changed since the last time, or None after `timeout` seconds without a change."""
        try:
            await asyncio.wait_for(self.event.wait(), timeout)
        except TimeoutError:
            return None
        changed, self.changed = self.changed, set()
        self.event.clear()
        return changed


class JobNotifier:
    """One subscription for all who wait in this process, open while anybody does."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inboxes: list[Inbox] = []
        self._subscription: Subscription | None = None
        self._opening = asyncio.Lock()

    @contextmanager
    def listening(self, jobs: set[str]) -> Iterator[Inbox]:
        """An inbox for the changes of these jobs, whichever are in the set at the time, from `open` on."""
        inbox = Inbox(jobs=jobs)
        self._inboxes.append(inbox)
        try:
            yield inbox
        finally:
            self._inboxes.remove(inbox)

    async def open(self) -> None:
        """Listen, if nobody does yet."""
        async with self._opening:
            if self._subscription is None:
                self._subscription = await self._client.subscribe("event.job.*.*", cb=self._on_event)

    async def _on_event(self, message: Msg) -> None:
        job = message.subject.split(".")[2]
        for inbox in self._inboxes:
            if job in inbox.jobs:
                inbox.changed.add(job)
                inbox.event.set()
