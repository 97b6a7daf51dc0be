"""Requests to the HTTP API over the bus, on the batch lane. Temporary failures are retried."""

import asyncio
import random
import secrets
from dataclasses import dataclass
from typing import Final

from nats.errors import Error as NatsError
from opentelemetry import trace
from opentelemetry.context import Context
from prometheus_client import Counter, Gauge
from pydantic import ValidationError

from shared.contracts.jobs import Endpoint
from shared.contracts.keys import EVERY_COLLECTION
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.requests import Request, response_to
from shared.contracts.results import Payload
from shared.fairness import FairShare, FairSlots
from shared.runtime.requester import Requester
from shared.stores.artifacts import Artifacts
from shared.stores.payloads import PayloadStore
from shared.telemetry.tracing import tracer

__all__ = ["Reply", "Requests"]

LARGEST: Final = 32 * 2**20
"""Bytes of a request's body."""

BUSY: Final = frozenset({429, 503})
"""Statuses of what will pass, however long it takes: a full queue, no worker, a broker that is away."""

TRIES: Final = 3
"""Times that a request is tried which fails for a reason that may be of its own making."""

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0

ANSWERED = Counter("sluice_requests_total", "Requests to gateways by endpoint and status.", ("endpoint", "status"))
REPEATED = Counter(
    "sluice_requests_repeated_total", "Requests to gateways that had to be made again.", ("endpoint", "status")
)
IN_FLIGHT = Gauge("sluice_requests_in_flight", "Requests to gateways that wait for their answer.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP status and the JSON body under it. `request_id` is the trace id under which logs say more."""

    status: int
    request_id: str
    body: bytes


class Requests:
    """Any number may be under way; `room` are at once, over all jobs of this worker. `seconds` is for one try."""

    def __init__(self, stages: Requester, artifacts: Artifacts, *, room: FairShare, seconds: float) -> None:
        self._stages = stages
        self._loads = PayloadStore(artifacts)
        self._room = FairSlots(room)
        self._seconds = seconds

    async def send(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        tenant: str,
        collections: tuple[str, ...] = EVERY_COLLECTION,
        principals: tuple[str, ...] = (),
    ) -> Reply:
        """The answer to a JSON body that is posted to an endpoint, and may name these collections (patterns), for who
        carries these principals.

        Waits for as long as there is no room or no worker; what else a server may be to blame for is tried three
        times. Raises Problem for a request that no gateway could answer.
        """
        if len(body) > LARGEST:
            detail = f"The body has {len(body):,} bytes; at most {LARGEST:,} are allowed."
            raise Problem(ProblemType.TOO_LARGE, detail, limit=LARGEST)
        request = Request(endpoint=endpoint, body=Payload(), collections=collections, principals=principals)
        tries, pause = 0, FIRST_PAUSE
        while True:
            outcome = await self._try(request, body, tenant)
            status = outcome.kind.status if isinstance(outcome, Problem) else outcome.status
            if status not in BUSY:
                tries += 1
                if status < 500 or tries == TRIES:
                    break
            REPEATED.labels(endpoint, status).inc()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)
        ANSWERED.labels(endpoint, status).inc()
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def _try(self, request: Request, body: bytes, tenant: str) -> Reply | Problem:
        # A trace of its own: one of all lines of a batch could not be looked at.
        links = [trace.Link(current)] if (current := trace.get_current_span().get_span_context()).is_valid else []
        async with self._room.slot(tenant):
            with (
                IN_FLIGHT.track_inprogress(),
                tracer.start_as_current_span(f"request {request.endpoint}", context=Context(), links=links),
            ):
                try:
                    return await self._ask(request, body, tenant)
                except Problem as problem:
                    return problem
                except (NatsError, TimeoutError, OSError) as error:
                    return Problem(ProblemType.BROKER_UNAVAILABLE, f"The message broker does not answer: {error!r}")

    async def _ask(self, request: Request, body: bytes, tenant: str) -> Reply:
        load = await self._loads.pack(tenant, f"request-{secrets.token_hex(12)}/body", body)
        try:
            stop = request.model_copy(update={"body": load}).stop()
            response = response_to(await self._stages.ask(stop, tenant=tenant, seconds=self._seconds))
            answer = await self._loads.read(tenant, response.body)
        except ValidationError:
            raise Problem(ProblemType.STAGE_FAILED, "A gateway answered with something that is no response.") from None
        finally:
            await self._loads.drop(tenant, load)
        await self._loads.drop(tenant, response.body)
        return Reply(status=response.status, request_id=response.request_id, body=answer)
