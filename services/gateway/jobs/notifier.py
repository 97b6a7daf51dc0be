"""Who waits for news of which job. The broker says that a job changed; how it is now is read from its entry."""

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
        """Hear the events of all jobs; to be called before the broker starts."""

        @broker.subscriber(
            "event.job.*.*",
            ack_policy=AckPolicy.MANUAL,
            decoder=_undecoded,
            title="event.job.*.*",
            no_reply=True,
        )
        async def hear(message: NatsMessage) -> None:
            self.tell(message.raw_message.subject.split(".")[2])

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

    def tell(self, job: str) -> None:
        for event in self._listeners.get(job, ()):
            event.set()

    def close(self) -> None:
        """No more news: every listener is woken for the last time."""
        self.closed = True
        for events in list(self._listeners.values()):
            for event in events:
                event.set()


async def _undecoded(message: NatsMessage) -> bytes:
    # Only the subject counts, and events of progress have no body.
    return bytes(message.body)
