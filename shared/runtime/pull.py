"""Pulling by room: a consumer asks the broker for as many messages as there is room for, and no more.

Pull requests stand at the broker for all the free room, so a message that arrives is sent at once to a consumer that
can work on it, and a message that nobody can work on stays in the shared queue. While a message is in work the broker
gets a sign of life regularly; without one, as when a process dies, it redelivers after `ack_wait`.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from shared.nats.client import Connection
from shared.runtime.delivery import Delivery, HeldDeliveries
from shared.runtime.options import DEFAULTS, RuntimeOptions
from shared.tasks import TaskSet

__all__ = ["Delivery", "PullConsumer"]

log = logging.getLogger(__name__)

SETTLING: Final = 0.05
"""Seconds within which the broker answers a request, if there is anything to send."""

AGAIN: Final = 0.5
"""Seconds between requests to a broker that has fallen silent: some node becomes the leader, and knows of none."""

REPAIR_DELAYS: Final = (0.1, 0.2, 0.5, 1.0)
"""Seconds between tries to pull while the consumer or the stream is missing; the last one repeats."""


class _Requests:
    """What has been asked of the broker and not been sent yet.

    A request is forgotten once it must have expired, so a message or a status that got lost holds no room for ever.
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._standing: deque[tuple[float, int]] = deque()

    @property
    def messages(self) -> int:
        now = time.monotonic()
        while self._standing and self._standing[0][0] < now:
            self._standing.popleft()
        return sum(messages for _, messages in self._standing)

    def add(self, messages: int) -> None:
        self._standing.append((time.monotonic() + self._lifetime, messages))

    def remove(self, messages: int) -> None:
        while self._standing and messages > 0:
            until, standing = self._standing.popleft()
            if standing > messages:
                self._standing.appendleft((until, standing - messages))
            messages -= standing

    def clear(self) -> None:
        self._standing.clear()


class PullConsumer:
    """Hands each message of one durable consumer to `handle`, in a task of its own, within the room there is.

    `room` is asked before each pull how many messages may be held now. `handle` settles the delivery; one that it
    leaves unsettled, or during which it raises, is given back for another try, after one second at first and 30 at
    most. `repair` is called when the broker does not know the consumer. `released` is called whenever there may be more
    room than before.
    """

    def __init__(
        self,
        client: Connection,
        *,
        stream: str,
        consumer: str,
        room: Callable[[], int],
        handle: Callable[[Delivery], Awaitable[None]],
        repair: Callable[[], Awaitable[None]],
        ack_wait: float,
        released: Callable[[], None] = lambda: None,
        options: RuntimeOptions = DEFAULTS,
    ) -> None:
        self._client = client
        self._request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._name = consumer
        self._room = room
        self._repair = repair
        self._ack_wait = ack_wait
        self._released = released
        self._options = options
        self._held = HeldDeliveries(handle, self._let_go, name=consumer)
        self._returning = TaskSet()
        self._requests = _Requests(options.pull_expires + options.pull_slack)
        self._waiting = 0
        self._waiting_until = 0.0
        self._failures = 0
        self._heard_at = 0.0
        self._silent = False
        self._draining = False
        self._recovering = False
        self._wake = asyncio.Event()
        self._resetting = asyncio.Lock()
        self._subscription: Subscription | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def held(self) -> int:
        """Messages in work."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Messages that the broker is likely to send as soon as it is asked: 0 once it has fallen silent."""
        return self._waiting if time.monotonic() < self._waiting_until else 0

    @property
    def pulling(self) -> bool:
        """Whether messages are taken as there is room for them."""
        return not self._draining and not self._recovering and self._subscription is not None

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
                tasks.create_task(self._notice_silence())
                tasks.create_task(self._held.keep_alive(self._client, self._ack_wait))
        finally:
            self._draining = True
            await self._withdraw()

    async def reset(self) -> None:
        """Start afresh on the connection: earlier pull requests are forgotten on both sides."""
        async with self._resetting:
            # Until there is a new inbox nothing is requested: it would be counted for the one and sent to the other.
            await self._withdraw()
            if self._draining:
                return
            self._requests.clear()
            self._subscription = await self._client.listen(self._client.new_inbox(), self._receive)
            self._heard_at = time.monotonic()
            self._wake.set()

    async def drain(self, grace: float) -> None:
        """Stop pulling, let the work in hand finish for `grace` seconds, and give the rest back at once."""
        self._draining = True
        end = asyncio.get_running_loop().time() + grace
        # What the broker had sent by then still arrives, and goes straight back.
        await self._withdraw()
        try:
            async with asyncio.timeout_at(end):
                await self._held.idle()
        except TimeoutError:
            held = dict(self._held.by_task)
            # Given back before it is cancelled: work in a thread ends when it likes.
            for delivery in held.values():
                await delivery.nak()
            await self._held.cancel(held)

    async def _withdraw(self) -> None:
        """Withdraw the pull requests, and take in what the broker had sent by then."""
        subscription, self._subscription = self._subscription, None
        if subscription is None or not self._client.is_connected:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                # Shielded: a flush that is cancelled ends the connection's reading task at the broker's answer.
                await asyncio.shield(self._end(subscription))

    async def _end(self, subscription: Subscription) -> None:
        with suppress(NatsError, OSError):
            await self._client.end(subscription)
        await self._returning.ended()

    async def _pull(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.pull_slack):
                    await self._wake.wait()
            self._wake.clear()
            await self._request()

    async def _notice_silence(self) -> None:
        """Ask anew where the broker does not say that a request stands: its leader has gone, and told nobody."""
        while True:
            await asyncio.sleep(AGAIN)
            if not self._requests.messages or self._recovering or not self._client.is_connected:
                self._heard_at = time.monotonic()
                continue
            if time.monotonic() - self._heard_at < (AGAIN if self._silent else self._options.silence):
                continue
            if not self._silent:
                log.warning("the broker has fallen silent about %s: asking it anew", self._name)
            self._silent = True
            with suppress(NatsError, OSError):
                await self.reset()

    async def _request(self) -> None:
        if self._draining or self._recovering or self._subscription is None or not self._client.is_connected:
            return
        room, requested = self._room(), self._requests.messages
        free = room - self.held - requested
        # While some request stands, a message finds it; topping up in steps saves a request per message.
        if free <= 0 or (requested > 0 and free < room // 4):
            return
        self._requests.add(free)
        expires, heartbeat = int(self._options.pull_expires * 1e9), int(self._options.heartbeat * 1e9)
        asked = {"batch": free, "expires": expires, "idle_heartbeat": min(heartbeat, expires // 2)}
        request = json.dumps(asked).encode()
        try:
            await self._client.publish(self._request_subject, request, reply=self._subscription.subject)
        except (NatsError, OSError) as error:
            log.warning("cannot pull from %s: %r", self._name, error)
        if requested == 0:
            # Nothing stood at the broker, so anything may have come in meanwhile, until the broker stays silent.
            self._waiting, self._waiting_until = max(self._waiting, free), time.monotonic() + SETTLING
            asyncio.get_running_loop().call_later(SETTLING, self._released)

    def _receive(self, message: Msg) -> None:
        self._heard_at, self._silent = time.monotonic(), False
        if not message.reply:
            self._receive_status(message.headers or {})
            return
        self._failures = 0
        self._requests.remove(1)
        delivery = Delivery(self._client, message)
        self._waiting, self._waiting_until = delivery.waiting, time.monotonic() + SETTLING
        if self._draining:
            self._returning.start(delivery.nak())
            return
        self._held.start(self._tasks, delivery)

    def _receive_status(self, headers: dict[str, str]) -> None:
        status = headers.get("Status", "")
        if status in ("404", "408"):
            self._requests.remove(int(headers.get("Nats-Pending-Messages", "0")))
            self._wake.set()
        elif status != "100" and not self._draining and not self._recovering:
            # The consumer or its stream is gone, its leader moves, or the broker shuts down.
            self._recovering = True
            self._requests.clear()
            self._tasks.create_task(
                self._recover(f"{status} {headers.get('Description', '')}".partition("\n")[0].strip())
            )

    async def _recover(self, reason: str) -> None:
        delay = REPAIR_DELAYS[min(self._failures, len(REPAIR_DELAYS) - 1)]
        self._failures += 1
        log.warning("cannot pull from %s (%s): trying again in %.1f s", self._name, reason, delay)
        try:
            await asyncio.sleep(delay)
            await self._repair()
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("cannot repair %s: %r", self._name, error)
        finally:
            self._recovering = False
        with suppress(NatsError):
            await self.reset()

    def _let_go(self, _: Delivery) -> None:
        self._released()
        self._wake.set()
