"""nats-py's client, with shorter ways for the messages of the query path.

nats-py hands each message to a task of its subscription through a queue, and each request waits in a task of its own.
Where what is to be done with a message never waits, it can be done where the message is read; and a request needs a
future and a timer.

It also gives up: at an error that the broker names as it ends a connection, such as a refused password. Here such a
connection is a lost one, and is made again.

No other module touches private members of nats-py; `pyproject.toml` allows the minor version for which they hold.
"""

import asyncio
import itertools
import json
import math
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionDrainingError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

__all__ = [
    "Connection",
    "SEQUENCE",
    "connect",
    "delivered",
    "end_reading",
    "end_watching",
    "is_connected",
    "is_refusal",
    "max_payload",
    "read_messages",
    "server_version",
]

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds before a try to connect: the first at most, and later ones, each twice as long as the one before."""

LASTING: Final = 5.0
"""Seconds after which a connection counts as good, so that pauses begin anew once it is lost."""

SEQUENCE: Final = "Nats-Sequence"
"""Header of a message that is read without a consumer: its number."""

END_OF_BATCH: Final = "204"
NOT_FOUND: Final = "404"

GOES_ON: Final = ("permissions violation", "invalid subject", "invalid publish subject", "maximum subscriptions")
"""Errors after which the broker keeps the connection."""


class Pauses:
    """How long to wait before each try to connect: twice as long each time, and not as long as others wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries = 0
        self._connected_at: float | None = None

    def next(self) -> float:
        """Seconds until the next try."""
        if self._connected_at is not None and self._clock() - self._connected_at > LASTING:
            self._tries = 0
        self._connected_at = None
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._tries, 16))
        self._tries += 1
        return random.uniform(longest / 2, longest)  # noqa: S311

    def connected(self) -> None:
        """The last try has succeeded."""
        self._connected_at = self._clock()


class Connection(Client):
    """Connect it as one of nats-py, with `max_reconnect_attempts=-1`: it is not given up.

    `passwords` are read at each try, and shown one after the other until the broker accepts one; `trust` is asked for
    the TLS context at each try.
    """

    def __init__(
        self,
        passwords: Callable[[], Sequence[str]] | None = None,
        trust: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        super().__init__()
        self._takers: dict[int, Callable[[Msg], None]] = {}
        self._prefix = ""
        self._requests = itertools.count()
        self._passwords = passwords
        self._trust = trust
        self._pauses = Pauses()
        self._has_connected = False
        self._reconnected_at = -math.inf

    @property
    def reconnected_at(self) -> float:
        """When it was last made again, by `time.monotonic()`; minus infinity before the first time.

        It is set before the first message of the new connection is read.
        """
        return self._reconnected_at

    @property
    def ssl_context(self) -> ssl.SSLContext:
        return self._trust() if self._trust is not None else super().ssl_context

    async def _select_next_server(self) -> None:
        if self.options["max_reconnect_attempts"] >= 0:
            return await super()._select_next_server()
        # Pauses grow, where nats-py's are all the same; and those of many clients differ.
        while True:
            await asyncio.sleep(self._pauses.next())
            server = self._server_pool.pop(0)
            self._server_pool.append(server)
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]  # of a try that failed halfway
            try:
                await self._connect_to_server(server)
            except Exception as error:  # noqa: BLE001  (whatever it is, the next try may succeed)
                await self._error_cb(error)
            else:
                self._current_server = server
                return None

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        except OSError:
            # The connection broke meanwhile, and nothing can be written to it any more: the rest of closing is left.
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)

    async def _process_connect_init(self) -> None:
        try:
            await self._introduce()
        except (NatsError, OSError, TimeoutError):
            raise
        except Exception as error:
            # Of anything else nats-py would end its task that reconnects.
            raise NatsError(f"nats: cannot connect: {error!r}") from error
        self._pauses.connected()
        if self._has_connected:
            self._reconnected_at = time.monotonic()
        self._has_connected = True

    async def _introduce(self) -> None:
        """Show the passwords, one after the other."""
        shown = self._passwords() if self._passwords is not None else ()
        for password in shown[:-1]:
            self.options["password"] = password
            try:
                return await super()._process_connect_init()
            except NatsError as error:
                if not is_refusal(error):
                    raise
            await self._connect_again()
        if shown:
            self.options["password"] = shown[-1]
        return await super()._process_connect_init()

    async def _connect_again(self) -> None:
        """Connect to the same server, which ends the connection of a client that it refuses."""
        assert self._transport is not None
        assert self._current_server is not None
        self._transport.close()  # type: ignore[no-untyped-call]
        await self._connect_to_server(self._current_server)

    async def _process_err(self, err_msg: str) -> None:
        # nats-py would close for good here. Whatever the broker does not like, the next connection may be good.
        error = NatsError("nats: " + err_msg.strip("'"))
        await self._error_cb(error)
        if not any(reason in err_msg for reason in GOES_ON):
            await self._process_op_err(error)

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


def is_refusal(error: Exception) -> bool:
    """Whether the broker refuses the user or the password."""
    return isinstance(error, NatsError) and "authorization violation" in str(error).lower()


def _give_up(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(NatsTimeout())


async def connect(
    servers: str | list[str],
    *,
    passwords: Callable[[], Sequence[str]] | None = None,
    trust: Callable[[], ssl.SSLContext] | None = None,
    **options: Any,
) -> Connection:
    """A connection with nats-py's options. Raises nats errors."""
    connection = Connection(passwords, trust)
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


async def read_messages(
    jetstream: JetStreamContext, stream: str, subject: str, *, start: int, most: int, timeout: float
) -> list[Msg]:
    """The messages on a subject from the number `start` on, `most` at most, of a stream that allows direct reading, as
    object stores do. It takes one request, and no reading position at the broker. Each message has its number in the
    header SEQUENCE.

    Any node of a cluster may answer, also one that does not have the last messages yet. Raises nats errors, also where
    the broker falls silent for `timeout` seconds.
    """
    client = jetstream._nc
    request = json.dumps({"seq": start, "batch": most, "next_by_subj": subject}).encode()
    replies = await client.subscribe(client.new_inbox())
    found: list[Msg] = []
    try:
        await client.publish(f"$JS.API.DIRECT.GET.{stream}", request, reply=replies.subject)
        while True:
            message = await replies.next_msg(timeout)
            headers = message.headers or {}
            if SEQUENCE in headers:
                found.append(message)
            elif headers.get("Status") in (END_OF_BATCH, NOT_FOUND):
                return found
            else:
                raise NatsError(f"nats: {headers.get('Status')} {headers.get('Description')}")
    finally:
        await replies.unsubscribe()


def max_payload(jetstream: JetStreamContext) -> int:
    """The bytes that a message may have, by the connection of a JetStream context, which does not show it."""
    return jetstream._nc.max_payload


def is_connected(jetstream: JetStreamContext) -> bool:
    """Whether the connection of a JetStream context is there now."""
    return bool(jetstream._nc.is_connected)


def server_version(client: Client) -> str:
    """The broker's version as it writes it; nats-py's own property leaves out what follows the numbers."""
    return str(client._server_info.get("version", ""))
