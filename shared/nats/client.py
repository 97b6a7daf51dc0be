"""nats-py's client, with shorter ways for the messages of the query path.

nats-py hands each message to a task of its subscription through a queue, and each request waits in a task of its own.
Where what is to be done with a message never waits, it can be done where the message is read; and a request needs a
future and a timer.
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

__all__ = ["Connection", "connect"]


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
        self._takers[subscription._id] = take
        return subscription

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._takers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
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
