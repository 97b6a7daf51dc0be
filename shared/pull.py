"""Pulling by room: a consumer asks the broker for as many messages as there is room for, and no more.

One pull request at a time stands at the broker for all the free room, so a message that arrives is sent at once to a
consumer that can work on it, and a message that nobody can work on stays in the shared queue. While a message is in
work the broker hears of it regularly; when a process dies it hears nothing, and redelivers after `ack_wait`.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

__all__ = ["Delivery", "PullConsumer"]

log = logging.getLogger(__name__)

EXPIRES: Final = 30.0
"""Seconds for which one pull request stands."""

REPAIR_DELAYS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between tries to pull while the consumer or the stream is missing; the last one repeats."""


class Delivery:
    """One message on loan from the broker. Settle it once, by `ack` or `nak`."""

    __slots__ = (
        "_client",
        "_reply",
        "data",
        "deliveries",
        "headers",
        "sequence",
        "settled",
        "stored_at",
        "subject",
    )

    def __init__(self, client: Client, message: Msg) -> None:
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<ns>.<pending>, or the same with the
        # domain and the account before the stream and one more token at the end.
        tokens = message.reply.split(".")
        at = 2 if len(tokens) == 9 else 4
        self._client = client
        self._reply = message.reply
        self.subject = message.subject
        self.data = message.data
        self.headers = message.headers or {}
        self.deliveries = int(tokens[at + 2])
        self.sequence = int(tokens[at + 3])
        self.stored_at = int(tokens[at + 5]) / 1e9
        self.settled = False

    async def ack(self) -> None:
        """The work is done: the broker forgets the message."""
        await self._settle(b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """The work was not done: redeliver, after `delay` seconds."""
        await self._settle(b'-NAK {"delay": %d}' % int(delay * 1e9) if delay else b"-NAK")

    async def in_progress(self) -> None:
        """The work goes on: the broker waits another `ack_wait`."""
        await self._client.publish(self._reply, b"+WPI")

    async def _settle(self, verdict: bytes) -> None:
        if self.settled:
            return
        self.settled = True
        try:
            await self._client.publish(self._reply, verdict)
        except NatsError as error:
            log.warning("cannot settle a message, it will be redelivered: %s", error)


class PullConsumer:
    """Hands each message of one durable consumer to `handle`, in a task of its own, within the room there is.

    `room` is asked before each pull how many messages may be held now. `handle` settles the delivery; one that it
    leaves unsettled, or during which it raises, is given back for another try after a second. `repair` is called when
    the broker does not know the consumer. `released` is called whenever a message is let go.
    """

    def __init__(
        self,
        client: Client,
        *,
        stream: str,
        consumer: str,
        room: Callable[[], int],
        handle: Callable[[Delivery], Awaitable[None]],
        repair: Callable[[], Awaitable[None]],
        ack_wait: float,
        released: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._name = consumer
        self._room = room
        self._handle = handle
        self._repair = repair
        self._ack_wait = ack_wait
        self._released = released
        self._held: dict[asyncio.Task[None], Delivery] = {}
        self._requested = 0
        self._failures = 0
        self._draining = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._inbox = ""
        self._subscription: Subscription | None = None

    @property
    def held(self) -> int:
        """Messages in work."""
        return len(self._held)

    @property
    def pulling(self) -> bool:
        """Whether a pull request stands at the broker, or all room is in use."""
        return not self._draining and (self._requested > 0 or self.held >= self._room())

    def wake(self) -> None:
        """Look again at the room."""
        self._wake.set()

    async def run(self) -> None:
        """Pull until cancelled. Cancelling gives back at once what is still in work."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self.reset()
                tasks.create_task(self._pull())
                tasks.create_task(self._keep_alive())
        finally:
            self._draining = True

    async def reset(self) -> None:
        """Start afresh on the connection: earlier pull requests are forgotten on both sides."""
        if self._draining:
            return
        old, self._subscription = self._subscription, None
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(self._inbox, cb=self._receive)
        if old is not None:
            await old.unsubscribe()
        self._requested = 0
        self._wake.set()

    async def drain(self, grace: float) -> None:
        """Stop pulling, let the work in hand finish for `grace` seconds, and give the rest back at once."""
        self._draining = True
        if self._subscription is not None and self._client.is_connected:
            # Withdraws the pull requests; what the broker had sent by then still arrives, and goes straight back.
            await self._subscription.drain()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            for task in list(self._held):
                task.cancel()
            await self._idle.wait()

    async def _pull(self) -> None:
        while True:
            try:
                async with asyncio.timeout(EXPIRES + 5):
                    await self._wake.wait()
            except TimeoutError:
                # The broker never said that the request had expired: it no longer knows of it.
                self._requested = 0
            self._wake.clear()
            room = self._room()
            free = room - self.held - self._requested
            # While some request stands, a message finds it; topping up in steps saves a request per message.
            too_little = free <= 0 or (self._requested > 0 and free < room // 4)
            if self._draining or too_little or not self._client.is_connected:
                continue
            self._requested += free
            request = json.dumps({"batch": free, "expires": int(EXPIRES * 1e9)}).encode()
            await self._client.publish(self._request_subject, request, reply=self._inbox)

    async def _receive(self, message: Msg) -> None:
        if not message.reply:
            await self._receive_status(message.headers or {})
            return
        self._failures = 0
        self._requested = max(0, self._requested - 1)
        delivery = Delivery(self._client, message)
        if self._draining:
            await delivery.nak()
            return
        self._idle.clear()
        task = self._tasks.create_task(self._hold(delivery))
        self._held[task] = delivery
        task.add_done_callback(self._let_go)

    async def _receive_status(self, headers: dict[str, str]) -> None:
        status = headers.get("Status", "")
        if status == "100":
            return
        pending = headers.get("Nats-Pending-Messages")
        self._requested = max(0, self._requested - int(pending)) if pending else 0
        if status in ("404", "408"):
            self._wake.set()
        elif not self._draining:
            # The consumer or its stream is gone, its leader moves, or the broker shuts down.
            delay = REPAIR_DELAYS[min(self._failures, len(REPAIR_DELAYS) - 1)]
            self._failures += 1
            log.warning("cannot pull from %s (%s): trying again in %.1f s", self._name, status, delay)
            self._tasks.create_task(self._repair_after(delay))

    async def _repair_after(self, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            await self._repair()
        except (NatsError, TimeoutError) as error:
            log.warning("cannot repair %s: %s", self._name, error)
        self._requested = 0
        self._wake.set()

    async def _hold(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        except asyncio.CancelledError:
            await delivery.nak()
            if not self._draining:
                raise
        except Exception:
            log.exception("handling a message of %s failed", self._name)
        finally:
            if not delivery.settled:
                await delivery.nak(1.0)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._held.pop(task, None)
        if not self._held:
            self._idle.set()
        self._wake.set()
        self._released()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._ack_wait / 3)
            if not self._client.is_connected:
                continue
            for delivery in list(self._held.values()):
                if not delivery.settled:
                    await delivery.in_progress()
