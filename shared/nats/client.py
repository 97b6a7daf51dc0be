"""nats-py's client, with shorter ways for the messages of the query path.

nats-py hands each message to a task of its subscription through a queue, and each request waits in a task of its own.
Where what is to be done with a message never waits, it can be done where the message is read; and a request needs a
future and a timer.

No other module touches private members of nats-py; `pyproject.toml` allows the minor version for which they hold.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionDrainingError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

__all__ = [
    "Connection",
    "connect",
    "delivered",
    "end_reading",
    "end_watching",
    "max_payload",
    "server_version",
]


class Connection(Client):
    """Connect it as one of nats-py."""

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Callable[[Msg], None]] = {}
        self._prefix = ""
        self._requests = itertools.count()

    async def listen(self, subject: str, take: Callable[[Msg], None]) -> Subscription:
        """Subscribe; `take` is called where messages are read, so it must be quick. Its errors go to `error_cb`."""

        async def take_early(message: Msg) -> None:
            take(message)

        subscription = await self.subscribe(subject, cb=take_early)
        # The number by which `_process_msg` gets messages; nats-py has no public name for it.
        self._takers[subscription._id] = take
        return subscription

    async def end(self, subscription: Subscription) -> None:
        """End a subscription and take in what the broker had sent by then. Raises nats errors."""
        # A flush of nats-py overtakes what was written just before, so `drain` alone can end before the broker has
        # noticed that it began, and drop messages. With a flush in between it cannot.
        await self._send_unsubscribe(subscription._id)
        await self.flush()
        await subscription.drain()  # type: ignore[no-untyped-call]

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        # Called however a subscription ends.
        self._takers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        # Calls `take` without the queue and the task between: see above.
        take, subscription = self._takers.get(sid), self._subs.get(sid)
        if take is None or subscription is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        subscription._received += 1
        message = Msg(
            _client=self,
            subject=subject.decode(),
            reply=reply.decode(),
            data=data,
            headers=await self._process_headers(headers) if headers else None,
        )
        try:
            take(message)
        except Exception as error:  # noqa: BLE001  (nobody else reads from the connection)
            await self._error_cb(error)

    async def _init_request_sub(self) -> None:
        # Answers to requests come over `listen` as well.
        self._resp_map = {}
        self._prefix = self.new_inbox() + "."
        self._resp_sub_prefix = bytearray(self._prefix.encode())
        await self.listen(self._prefix + "*", self._answered)

    def _answered(self, message: Msg) -> None:
        future = self._resp_map.get(message.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(message)

    async def _request_new_style(
        self, subject: str, payload: bytes, timeout: float = 1, headers: dict[str, Any] | None = None
    ) -> Msg:
        # A future and a timer instead of a task for each request.
        if self.is_draining_pubs:
            raise ConnectionDrainingError
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        token = str(next(self._requests))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._resp_map[token] = future
        timer: asyncio.TimerHandle | None = None
        try:
            await self.publish(subject, payload, reply=self._prefix + token, headers=headers)
            timer = loop.call_later(timeout, _give_up, future)
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            del self._resp_map[token]


def _give_up(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(NatsTimeout())


async def connect(servers: str | list[str], **options: Any) -> Connection:
    """A connection with nats-py's options. Raises nats errors."""
    connection = Connection()
    await connection.connect(servers, **options)
    return connection


async def delivered(watcher: KeyValue.KeyWatcher) -> int:
    """How many entries the broker has sent to a watcher, which does not say so itself."""
    assert watcher._sub is not None
    position = (await watcher._sub.consumer_info()).delivered
    return position.consumer_seq if position is not None else 0


async def end_watching(watcher: KeyValue.KeyWatcher) -> None:
    """Stop a watcher, and have the broker forget its position at once. Raises nats errors."""
    subscription = watcher._sub
    await watcher.stop()  # type: ignore[no-untyped-call]
    if isinstance(subscription, JetStreamContext.PushSubscription):
        await _forget(subscription)


async def end_reading(subscription: JetStreamContext.PullSubscription | JetStreamContext.PushSubscription) -> None:
    """End a subscription to a stream, and have the broker forget its position at once. Raises nats errors."""
    await subscription.unsubscribe()
    await _forget(subscription)


async def _forget(subscription: JetStreamContext.PullSubscription | JetStreamContext.PushSubscription) -> None:
    """Remove the consumer. Nobody waits for the answer: a consumer that stays goes by itself after a while."""
    stream, consumer = subscription._stream, subscription._consumer
    await subscription._js._nc.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}")


def max_payload(jetstream: JetStreamContext) -> int:
    """The bytes that a message may have, by the connection of a JetStream context, which does not show it."""
    return jetstream._nc.max_payload


def server_version(client: Client) -> str:
    """The broker's version as it writes it; nats-py's own property leaves out what follows the numbers."""
    return str(client._server_info.get("version", ""))
