"""One message on loan from the broker, and the verdicts on it."""

import logging

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

__all__ = ["Delivery"]

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
            log.warning("cannot tell the broker how a message fares, it will be redelivered: %r", error)
