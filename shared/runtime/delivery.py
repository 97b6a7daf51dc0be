"""Messages on loan from the broker, and the verdicts on them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

__all__ = ["Delivery", "HeldDeliveries"]

log = logging.getLogger(__name__)


class Delivery:
    """One message on loan from the broker. Settle it once, by `ack` or `nak`; later verdicts have no effect."""

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
        "waiting",
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
        self.waiting = int(tokens[at + 6])
        self.settled = False

    async def ack(self) -> None:
        """The work is done: the broker forgets the message."""
        await self._settle(b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """The work was not done: redeliver, after `delay` seconds."""
        await self._settle(b'-NAK {"delay": %d}' % int(delay * 1e9) if delay else b"-NAK")

    async def in_progress(self) -> None:
        """The work goes on: the broker waits another `ack_wait`."""
        await self._tell(b"+WPI")

    async def _settle(self, verdict: bytes) -> None:
        if not self.settled:
            self.settled = True
            await self._tell(verdict)

    async def _tell(self, verdict: bytes) -> None:
        try:
            await self._client.publish(self._reply, verdict)
        except (NatsError, OSError) as error:
            log.warning("cannot settle a message, it will be redelivered: %r", error)


class HeldDeliveries:
    """The deliveries in work, each handled in a task of its own.

    `handle` settles a delivery; one that it leaves unsettled, or during which it raises, is given back for another try,
    after one second at first and 30 at most. `released` is called for each that is no longer held.
    """

    def __init__(
        self, handle: Callable[[Delivery], Awaitable[None]], released: Callable[[Delivery], None], *, name: str
    ) -> None:
        self._handle = handle
        self._released = released
        self._name = name
        self._held: dict[asyncio.Task[None], Delivery] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def by_task(self) -> Mapping[asyncio.Task[None], Delivery]:
        return self._held

    def start(self, tasks: asyncio.TaskGroup, delivery: Delivery) -> None:
        self._idle.clear()
        task = tasks.create_task(self._hold(delivery))
        self._held[task] = delivery
        task.add_done_callback(self._let_go)

    async def idle(self) -> None:
        """Wait until none is held."""
        await self._idle.wait()

    async def cancel(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """End these tasks. One that drops its cancellation is cancelled again."""
        ending = list(tasks)
        while pending := [task for task in ending if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=1.0)

    async def keep_alive(self, client: Client, ack_wait: float) -> None:
        """Tell the broker regularly that the work goes on, until cancelled; it redelivers after `ack_wait` seconds."""
        while True:
            await asyncio.sleep(ack_wait / 3)
            if client.is_connected:
                for delivery in list(self._held.values()):
                    if not delivery.settled:
                        await delivery.in_progress()

    async def _hold(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        except asyncio.CancelledError:
            await delivery.nak()
            raise
        except Exception:
            log.exception("handling a message of %s failed", self._name)
        finally:
            await delivery.nak(min(30.0, 0.5 * 2 ** min(delivery.deliveries, 6)))

    def _let_go(self, task: asyncio.Task[None]) -> None:
        delivery = self._held.pop(task)
        if not self._held:
            self._idle.set()
        self._released(delivery)
