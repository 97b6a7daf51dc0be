"""Calls of a Qdrant server: each has a deadline, a few tries, and ends with a result or with a problem that says what
to do.

Every call may be repeated: points have ids that follow from what they hold, and changes name what they change.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from services.retriever.stores.qdrant.address import Address
from shared.contracts.problems import Problem, ProblemType

__all__ = ["REQUEST_SECONDS", "AbsentError", "Connection", "RefusedError"]

log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = 10
"""Of one request; a write has to be applied in it."""

LONGEST_SECONDS: Final = 120
"""Of any request."""

CONNECTIONS: Final = 64
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
"""Hosts that no proxy of the environment stands before."""

TRIES: Final = 3
PAUSE: Final = 0.1
"""Seconds before the second try, and four times as many before each further one."""
LONGEST_PAUSE: Final = 5.0

OLDEST: Final = (1, 19)
"""The first version that weighs the words of one tenant by that tenant's passages alone."""

PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the next try may succeed."""

NO_SPACE: Final = ("no space left", "not enough space", "disk usage", "out of disk")
"""What the server says in lower case where its disk is full."""

FAILURES: Final = (
    TimeoutError,
    ResponseHandlingException,
    ResourceExhaustedResponse,
    UnexpectedResponse,
    ValueError,  # an answer that is not JSON
)
"""What the client raises."""

T = TypeVar("T")


class RefusedError(RuntimeError):
    """The server is there, and cannot be used as it is: another try does not help."""


class AbsentError(Problem):
    """A collection of the index is not on the server: somebody has removed it."""


class Connection:
    """A client of one server, for one event loop. `name` is how problems call the server."""

    def __init__(self, client: AsyncQdrantClient, *, name: str) -> None:
        self._client = client
        self._name = name

    @classmethod
    def open(cls, address: Address, api_key: str = "") -> Self:
        """It connects with the first call."""
        if api_key and address.url.startswith("http:"):
            log.warning("the API key of the index goes over a connection that is not encrypted: %s", address.url)
        client = AsyncQdrantClient(
            url=address.url,
            port=None,
            # As a header: given as a key, the client warns of plain connections in words of its own.
            headers={"api-key": api_key} if api_key else None,
            # Of the client itself; each call has a deadline of its own.
            timeout=LONGEST_SECONDS,
            check_compatibility=False,
            trust_env=urlsplit(address.url).hostname not in LOOPBACK,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        )
        return cls(client, name=address.url)

    async def call(
        self, request: Callable[[AsyncQdrantClient], Awaitable[T]], *, seconds: float = REQUEST_SECONDS
    ) -> T:
        """The result of a request that may be repeated.

        Raises Problem INDEX_UNAVAILABLE where the server is away or refuses, STORAGE_FULL where its disk is full,
        AbsentError where it has no such collection, and UnexpectedResponse where it does not take this request.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                async with asyncio.timeout(seconds):
                    return await request(self._client)
            except FAILURES as error:
                if isinstance(error, UnexpectedResponse) and error.status_code not in PASSING:
                    self._raise_refused(error)
                    raise
                self._raise_full(error)
                if not tries_left:
                    raise self._unavailable(error) from error
                pause = PAUSE * 4 ** (TRIES - 1 - tries_left) * random.uniform(0.5, 1.0)  # noqa: S311
                if isinstance(error, ResourceExhaustedResponse):
                    pause = max(pause, error.retry_after_s)
            await asyncio.sleep(min(pause, LONGEST_PAUSE))
        raise AssertionError

    async def check(self) -> None:
        """Raises RefusedError where the server is too old or refuses the key, Problem where it is away."""
        try:
            version = (await self.call(lambda client: client.info())).version
            # The page of the version asks for no key.
            await self.call(lambda client: client.get_collections())
        except (UnexpectedResponse, AbsentError) as error:
            raise RefusedError(f"{self._name} does not answer as Qdrant does") from error
        except Problem as problem:
            if isinstance(problem.__cause__, UnexpectedResponse) and problem.__cause__.status_code in (401, 403):
                raise RefusedError(problem.detail) from problem
            raise
        if _numbers(version) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise RefusedError(f"{self._name} is Qdrant {version}, and the index needs {oldest} or later")

    async def close(self) -> None:
        await self._client.close()

    def _raise_refused(self, error: UnexpectedResponse) -> None:
        if error.status_code in (401, 403):
            detail = (
                f"Qdrant at {self._name} refuses the API key of the index ({error.status_code}). "
                "Set SLUICE_INDEX_API_KEY to a key that may read and write."
            )
            raise Problem(ProblemType.INDEX_UNAVAILABLE, detail) from error
        if error.status_code == 404:
            detail = (
                f"A collection of the index is gone from Qdrant at {self._name}. "
                "Restore it from a snapshot, or index the documents anew."
            )
            raise AbsentError(ProblemType.INDEX_DAMAGED, detail) from error
        self._raise_full(error)

    def _raise_full(self, error: Exception) -> None:
        said = str(error).lower()
        if isinstance(error, UnexpectedResponse):
            said = error.content.decode("utf-8", "replace").lower()
        if getattr(error, "status_code", None) == 507 or any(words in said for words in NO_SPACE):
            detail = f"The disk of Qdrant at {self._name} is full. Make room there; the job is tried again."
            raise Problem(ProblemType.STORAGE_FULL, detail) from error

    def _unavailable(self, error: Exception) -> Problem:
        detail = (
            f"Qdrant at {self._name} does not answer: {_reason(error)}. "
            "Check that it runs and can be reached from the retriever, and try again."
        )
        return Problem(ProblemType.INDEX_UNAVAILABLE, detail)


def _reason(error: Exception) -> str:
    """In a few words, without what the server or a proxy has sent."""
    match error:
        case UnexpectedResponse():
            return f"it said {error.status_code}"
        case ResourceExhaustedResponse():
            return "it has too much to do"
        case TimeoutError():
            return "it took too long"
        case ResponseHandlingException(source=httpx.TimeoutException()):
            return "it took too long"
        case ResponseHandlingException(source=httpx.ConnectError()):
            return "no connection can be made"
        case ResponseHandlingException(source=httpx.TransportError()):
            return "the connection broke"
    return "its answer cannot be read"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdecimal())
