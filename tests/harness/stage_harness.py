"""Stage workers inside the test's own process, and a client that plays the gateway for them."""

import asyncio
import json
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from prometheus_client import REGISTRY

from shared.contracts.envelope import Lane, Query, Stop
from shared.contracts.events import AnyEvent, Done, Failed, Result
from shared.nats.client import Connection, connect
from shared.nats.settings import QueueSettings
from shared.nats.subjects import QUERIES, StageQueue, reply_subject
from shared.nats.topology import Topology
from shared.runtime.onward import Onward
from shared.runtime.options import DEFAULTS, RuntimeOptions
from shared.runtime.replies import Mailbox, open_mailbox
from shared.runtime.stage import Context, Process, Stage
from shared.runtime.worker import StageWorker
from shared.telemetry.metrics import OUTCOMES

__all__ = [
    "PATIENCE",
    "StageHarness",
    "Gate",
    "ReplyRecorder",
    "listening",
    "open_stage_harness",
    "outcomes",
    "settle",
    "until",
]

PATIENCE = 90.0


async def until(
    condition: Callable[[], Awaitable[Any]], what: str = "the condition", *, patience: float = PATIENCE
) -> Any:
    """Poll until a condition is true and return its value."""
    deadline = time.monotonic() + patience
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"{what} did not come true"
        await asyncio.sleep(0.01)
    return value


def outcomes(stage: str, outcome: str, lane: Lane = Lane.INTERACTIVE) -> float:
    """How many messages of a stage ended so in this process, since a stage harness was opened."""
    labels = {"stage": stage, "variant": "default", "lane": lane.value, "outcome": outcome}
    return REGISTRY.get_sample_value("sluice_stage_messages_total", labels) or 0.0


class Gate:
    """A stage function whose work starts, is seen, and waits for the test."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[Query] = asyncio.Queue()
        self.stopped: asyncio.Queue[Query] = asyncio.Queue()
        self.working: dict[str, Query] = {}
        self.most = 0
        self._go: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._open = asyncio.Event()

    async def __call__(self, query: Query, context: Context) -> Query:
        self.working[query.id] = query
        self.most = max(self.most, len(self.working))
        self.started.put_nowait(query)
        waits = [asyncio.ensure_future(event.wait()) for event in (self._go[query.id], self._open)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.stopped.put_nowait(query)
            raise
        finally:
            self.working.pop(query.id, None)
            for wait in waits:
                wait.cancel()
        return query

    async def next(self) -> Query:
        """The next query whose work has started."""
        async with asyncio.timeout(PATIENCE):
            return await self.started.get()

    def release(self, query: Query) -> None:
        self._go[query.id].set()

    def open(self) -> None:
        """Let everything pass from now on."""
        self._open.set()


class ReplyRecorder:
    """What the stage programs say of their work (see `programs/stage.py`), and the word that lets them go on."""

    def __init__(self, client: Connection) -> None:
        self._client = client
        self._heard: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    async def hear(self, message: Msg) -> None:
        _, what, query_id = message.subject.split(".")
        if what != "go":
            self._heard.put_nowait((what, query_id, json.loads(message.data)))

    async def next(self, what: str) -> tuple[str, str]:
        """Who says it next, and of which query. What else is said before that is passed over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                said, query_id, instance = await self._heard.get()
                if said == what:
                    return instance, query_id

    async def go(self, query: Query) -> None:
        await self._client.publish(f"test.go.{query.id}", b"")
        await settle(self._client)


@asynccontextmanager
async def listening(client: Connection) -> AsyncIterator[ReplyRecorder]:
    recorder = ReplyRecorder(client)
    subscription = await client.subscribe("test.>", cb=recorder.hear)
    await settle(client)
    yield recorder
    await subscription.unsubscribe()


class _Unread:
    """A reader of nothing that the submitter of a query says itself."""

    async def send(self, event: AnyEvent, /) -> bool:
        return True


@dataclass
class StageHarness:
    """The test's connection and topology, and the stage workers that it runs."""

    url: str
    client: Connection
    jetstream: JetStreamContext
    topology: Topology
    settings: QueueSettings
    asker: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")

    def query(self, *stages: str, timeout: float = 60.0, **members: Any) -> Query:
        now = time.time()
        query_id = members.pop("id", uuid.uuid4().hex)
        return Query(
            id=query_id,
            asked_at=now,
            deadline=now + timeout,
            reply=reply_subject(self.asker, query_id),
            slip=tuple(Stop(stage=stage) for stage in stages),
            **{"joined": True, **members},
        )

    async def submit(self, query: Query, mailbox: Mailbox | None = None) -> Query:
        onward = Onward(self.jetstream, self.topology, DEFAULTS, room=0)
        await onward.begin(query, mailbox or _Unread())
        return query

    @asynccontextmanager
    async def replies_to(self, query: Query) -> AsyncIterator[Mailbox]:
        """Submit a query and listen to its events."""
        async with open_mailbox(self.client, self.asker, query.id) as mailbox:
            await self.submit(query, mailbox)
            yield mailbox

    async def ask(self, query: Query) -> list[AnyEvent]:
        """All events of a query up to its end."""
        async with self.replies_to(query) as mailbox:
            return await self.events(mailbox)

    @staticmethod
    async def events(mailbox: Mailbox) -> list[AnyEvent]:
        """All events up to the end of the query."""
        events: list[AnyEvent] = []
        while not events or not isinstance(events[-1], Result | Done | Failed):
            events.append(await mailbox.receive(PATIENCE))
        return events

    @asynccontextmanager
    async def working(
        self,
        process: Process,
        name: str = "work",
        *,
        instance: str = "w1",
        grace: float = 0.0,
        runtime: RuntimeOptions = DEFAULTS,
        **options: Any,
    ) -> AsyncIterator[StageWorker]:
        """Run a stage worker on a connection of its own; at the end what it holds is given back."""
        client = await connect(self.url)
        jetstream = client.jetstream()
        worker = StageWorker(
            Stage(name=name, process=process, **options),
            client=client,
            jetstream=jetstream,
            topology=Topology(jetstream, self.settings),
            settings=self.settings,
            instance=instance,
            options=runtime,
        )
        running = asyncio.create_task(worker.run())
        try:
            await until(lambda: _pulls(worker, running), "pulling")
            yield worker
        finally:
            await worker.drain(grace)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await client.close()

    async def queue(self, stage: str, lane: Lane = Lane.INTERACTIVE) -> ConsumerInfo:
        """The broker's view of a stage's queue."""
        return await self.jetstream.consumer_info(QUERIES, f"{stage}_default_{lane}")

    async def make_queue(self, stage: str) -> None:
        await self.topology.ensure_queues([StageQueue(stage=stage, variant="default", lane=lane) for lane in Lane])

    async def empty(self, stage: str, lane: Lane = Lane.INTERACTIVE) -> None:
        """Wait until nothing of a queue waits or is in work."""

        async def is_empty() -> bool:
            info = await self.queue(stage, lane)
            return not info.num_pending and not info.num_ack_pending

        await until(is_empty, f"an empty queue of {stage}")

    async def stored(self, subject: str) -> int:
        """Messages in the query stream on a subject."""
        info = await self.jetstream.stream_info(QUERIES, subjects_filter=subject)
        return sum((info.state.subjects or {}).values())


async def _pulls(worker: StageWorker, running: "asyncio.Task[None]") -> bool:
    if running.done():
        running.result()
    return worker.pulling


async def settle(client: Connection) -> None:
    """Wait until the broker knows all that the client has sent: a single flush overtakes what was sent just before."""
    await client.flush()
    await client.flush()


async def _ignore(_: Exception) -> None:
    """A broker that a test has killed is no news."""


@asynccontextmanager
async def open_stage_harness(url: str, **settings: Any) -> AsyncIterator[StageHarness]:
    """A stage harness on a broker, whose topology is made, with the counts of `outcomes` at zero."""
    OUTCOMES.clear()
    client = await connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_ignore)
    chosen = QueueSettings(**{"ack_wait": 1.0, **settings})
    jetstream = client.jetstream()
    topology = Topology(jetstream, chosen)
    await topology.ensure()
    harness = StageHarness(url, client, jetstream, topology, chosen)
    # A query that nobody reads is stopped at once, so somebody always reads.
    await client.subscribe(f"reply.{harness.asker}.*")
    await settle(client)
    try:
        yield harness
    finally:
        with suppress(OSError):  # the test may have ended the broker
            await client.close()
