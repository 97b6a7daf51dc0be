"""Notifies those who wait for a change of a job. Events say only that a job changed; its state is in its record."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from faststream import AckPolicy
from faststream.nats import NatsBroker
from faststream.nats.annotations import NatsMessage

__all__ = ["JobNotifier"]


class JobNotifier:
    """Wakes listeners when their job changes, and all of them when the gateway stops."""

    def __init__(self) -> None:
        self.closed = False
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def subscribe(self, broker: NatsBroker) -> None:
        """Subscribe to the events of all jobs, before the broker starts."""

        @broker.subscriber(
            "event.job.*.*",
            ack_policy=AckPolicy.MANUAL,
            decoder=_undecoded,
            title="event.job.*.*",
            no_reply=True,
        )
        async def on_event(message: NatsMessage) -> None:
            self.notify(message.raw_message.subject.split(".")[2])

    @contextmanager
    def listen(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job may have changed; the listener clears it."""
        event = asyncio.Event()
        self._listeners[job].add(event)
        try:
            yield event
        finally:
            self._listeners[job].discard(event)
            if not self._listeners[job]:
                del self._listeners[job]

    def notify(self, job: str) -> None:
        for event in self._listeners.get(job, ()):
            event.set()

    def close(self) -> None:
        """Wake every listener for the last time."""
        self.closed = True
        for events in list(self._listeners.values()):
            for event in events:
                event.set()


async def _undecoded(message: NatsMessage) -> bytes:
    # Only the subject matters, and events of progress have no body.
    return bytes(message.body)
