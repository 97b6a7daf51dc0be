"""The trainer's connection to the broker. It outlives the broker's restarts; what waits for it waits so long and no
longer."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from shared.contracts.problems import Problem, ProblemType
from shared.nats.client import connect, is_refusal
from shared.nats.settings import BrokerSettings
from shared.security.credentials import Credentials

__all__ = ["connected", "patiently"]

log = logging.getLogger(__name__)

PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 10.0

Result = TypeVar("Result")


@asynccontextmanager
async def connected(settings: BrokerSettings, patience: float) -> AsyncIterator[JetStreamContext]:
    """Raises Problem BROKER_UNAVAILABLE where there is no connection after `patience` seconds, and TRAINING_REFUSED
    where the broker does not take the credential."""
    credentials = Credentials.of(settings)
    last: list[Exception] = []

    async def note(error: Exception) -> None:
        last[:] = [error]
        if is_refusal(error) and not reached:
            raise error

    reached = False
    options: dict[str, Any] = {
        "name": "trainer",
        "max_reconnect_attempts": -1,
        "error_cb": note,
        "passwords": credentials.passwords,
        "trust": credentials.trust,
        **_connection_options(settings, credentials),
    }
    try:
        async with asyncio.timeout(patience):
            client = await connect(settings.nats_url.split(","), **options)
    except TimeoutError:
        raise _away(settings, last[0] if last else None) from None
    except NatsError as error:
        raise Problem(
            ProblemType.TRAINING_REFUSED,
            f"The broker does not let the trainer in as '{credentials.name}': {error}. See docs/training.md for its "
            "credential.",
        ) from error
    reached = True
    try:
        yield client.jetstream(timeout=10.0)
    finally:
        await client.close()


async def patiently(work: Callable[[], Awaitable[Result]], patience: float) -> Result:
    """Do what may be done again until it succeeds, for `patience` seconds. What is not there stays so: it is raised.

    Raises Problem BROKER_UNAVAILABLE.
    """
    give_up = time.monotonic() + patience
    pause = PAUSE
    while True:
        try:
            return await work()
        except NotFoundError:
            raise
        except (NatsError, TimeoutError, OSError) as error:
            if time.monotonic() + pause > give_up:
                raise Problem(ProblemType.BROKER_UNAVAILABLE, f"The broker does not answer: {error!r}") from error
            log.warning("the broker does not answer, asking again: %r", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _connection_options(settings: BrokerSettings, credentials: Credentials) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if (prefix := credentials.options.get("inbox_prefix")) is not None:
        options["inbox_prefix"] = prefix
    if settings.nats_user:
        options["user"] = settings.nats_user
    if credentials.trust is not None:
        options |= {"tls": credentials.trust(), "tls_handshake_first": settings.nats_tls_first}
    return options


def _away(settings: BrokerSettings, error: Exception | None) -> Problem:
    why = f" ({error})" if error is not None else ""
    return Problem(ProblemType.BROKER_UNAVAILABLE, f"The trainer cannot reach the broker at {settings.nats_url}{why}.")
