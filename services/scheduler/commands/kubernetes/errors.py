"""Errors of the Kubernetes API, and the pauses between retries."""

import json
import random
import time
from typing import Final, Self

import aiohttp
import anyio

from services.scheduler.commands.kubernetes.views import Object
from shared.contracts.problems import Problem, ProblemType

__all__ = ["CONNECTION", "RetryLimit", "Refusal", "check"]

CONNECTION: Final = (aiohttp.ClientError, OSError, TimeoutError, json.JSONDecodeError)
"""What a connection that fails raises."""

LONGEST_REST: Final = 10.0
LONGEST_ASKED: Final = 60.0
"""Seconds between two tries, as chosen here and as asked for by the server."""


class Refusal(Exception):  # noqa: N818  (an answer)
    """The API server did not do what it was asked for, and says why."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @classmethod
    def of(cls, status: Object, code: int, retry_after: float = 0.0) -> Self:
        """From an object of the kind Status."""
        message = status.get("message") or ""
        return cls(int(status.get("code") or code), status.get("reason") or "", message, retry_after)

    @property
    def passing(self) -> bool:
        return self.status in (401, 408, 429) or self.status >= 500


class RetryLimit:
    """How long the API server may be away."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._rests = 0

    def reset(self) -> None:
        """It has answered."""
        self._since = None
        self._rests = 0

    async def rest(self, error: Exception) -> None:
        """Wait before the next try. Raises Problem CLUSTER_UNAVAILABLE when it has been away for too long."""
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= self._seconds:
            raise Problem(ProblemType.CLUSTER_UNAVAILABLE, f"The Kubernetes API does not answer: {error!r}.") from error
        self._rests += 1
        rest = min(LONGEST_REST, 0.1 * 2.0**self._rests) * random.uniform(0.5, 1.0)  # noqa: S311
        asked = error.retry_after if isinstance(error, Refusal) else 0.0
        await anyio.sleep(max(rest, min(asked, LONGEST_ASKED)))


async def check(response: aiohttp.ClientResponse) -> None:
    """Raises Refusal for an answer that is an error."""
    if response.status < 400:
        return
    body = await response.text()
    try:
        status: Object = json.loads(body)
    except json.JSONDecodeError:
        status = {"message": body[:500]}
    try:
        retry_after = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 0.0
    raise Refusal.of(status, response.status, retry_after)
