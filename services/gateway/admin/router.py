"""/v1/status, /v1/pipelines, /v1/traces and /v1/dead-letters"""

import asyncio
from functools import partial
from typing import Annotated, Final

from fastapi import Depends, Path, Query, Request, Response
from fastapi import status as status_codes

from services.gateway.admin import discovery, traces
from services.gateway.admin.dead_letters import payload_text, shown
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    BusDependency,
    DeadLettersDependency,
    PipelinesDependency,
    QueriesDependency,
    SelectorDependency,
    SettingsDependency,
)
from services.gateway.http.body import refuse_other_sites
from services.gateway.http.models import (
    DeadLetterList,
    PipelineBody,
    PipelineList,
    Replayed,
)
from services.gateway.http.openapi import problems
from services.gateway.queries.formatter import QueryFormatter
from services.gateway.queries.responses import whole_answer
from services.gateway.variants.service import warnings
from shared.contracts.graphs import stages
from shared.contracts.graphs.written import written
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from shared.nats.subjects import reply_subject
from shared.telemetry.trace_events import MOST_TRACES
from sluice.api.dead_letters import DeadLetter, DeadLetterMessage
from sluice.api.queries import Answer
from sluice.api.status import Status

__all__ = ["router"]

router = authenticated_router("operation")

LONGEST: Final = 1.0
QUIET: Final = 0.3
"""Seconds to wait for services: who looks at the status wants to see the busy ones above all."""

TraceId = Annotated[
    str,
    Path(alias="id", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The id of a trace, of a query or of a job."),
]

Sequence = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("/v1/status", summary="Look at what runs and what waits", responses=problems())
@requires(Action.ADMIN)
async def status(
    request: Request, selector: SelectorDependency, bus: BusDependency, dead_letters: DeadLettersDependency
) -> Status:
    """Services that are too busy to answer within a second are not listed."""
    services, queues, jobs, kept = await asyncio.gather(
        discovery.discover_services(bus.client, longest=LONGEST, quiet=QUIET),
        discovery.queues(bus.jetstream),
        discovery.jobs(bus.jetstream),
        dead_letters.count(),
    )
    return Status(
        version=request.app.version,
        broker=discovery.broker(bus.client),
        services=services,
        queues=queues,
        jobs=jobs,
        dead_letters=kept,
        warnings=warnings(selector.routes.values(), services),
    )


@router.get("/v1/pipelines", summary="List the pipelines", responses=problems())
@requires(Action.QUERY, Action.READ)
async def pipelines(pipelines: PipelinesDependency) -> PipelineList:
    """What a query may name as its `pipeline`."""
    named = sorted(pipelines.named.items())
    bodies = [PipelineBody(name=name, stages=list(stages(stops)), steps=written(stops)) for name, stops in named]
    return PipelineList(pipelines=bodies)


@router.get("/v1/traces", summary="List the latest traces", responses=problems())
@requires(Action.READ, Action.QUERY)
async def list_latest(
    bus: BusDependency,
    principal: PrincipalDependency,
    limit: Annotated[int, Query(ge=1, le=MOST_TRACES)] = 50,
) -> traces.TraceList:
    """Those of the tenant's queries and jobs that the services still remember, the newest first.

    Why one failed is said to callers with `read` who see every collection and document of the tenant.
    """
    return await traces.latest_traces(bus.client, limit, principal.tenant, words=principal.sees_everything)


@router.get("/v1/traces/{id}", summary="Look at a trace", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ, Action.QUERY)
async def get(trace: TraceId, bus: BusDependency, principal: PrincipalDependency) -> traces.TraceBody:
    """Put together from what each service remembers of its last traces; no tracing backend is needed."""
    return await traces.collect_trace(bus.client, trace, principal.tenant, words=principal.sees_everything)


@router.get("/v1/dead-letters", summary="List dead letters", responses=problems())
@requires(Action.ADMIN)
async def list_newest(
    dead_letters: DeadLettersDependency,
    after: Annotated[
        int | None, Query(ge=1, lt=2**63, description="Only dead letters that are listed after the one of this number.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DeadLetterList:
    """One page of the work that failed for good, newest first, with the reason."""
    letters = await dead_letters.list(limit + 1, after=after)
    return DeadLetterList(
        dead_letters=[DeadLetter(**shown(letter)) for letter in letters[:limit]],
        next=letters[limit - 1].sequence if len(letters) > limit else None,
    )


@router.get("/v1/dead-letters/{seq}", summary="Look at a dead letter", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.ADMIN)
async def get_dead_letter(
    seq: Sequence, dead_letters: DeadLettersDependency, principal: PrincipalDependency
) -> DeadLetterMessage:
    """With the beginning of its message as text."""
    letter, payload = await dead_letters.get(seq)
    return DeadLetterMessage(**shown(letter), payload=payload_text(principal, letter.subject, payload))


@router.delete(
    "/v1/dead-letters/{seq}",
    summary="Discard a dead letter",
    status_code=status_codes.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND),
)
@requires(Action.ADMIN)
async def discard(seq: Sequence, dead_letters: DeadLettersDependency) -> None:
    """Its work is never tried again. A job of it stays failed, and can be retried for as long as it is kept."""
    await dead_letters.get(seq)
    await dead_letters.forget(seq)


@router.post(
    "/v1/dead-letters/{seq}/replay",
    summary="Try a dead letter again",
    dependencies=[Depends(refuse_other_sites)],
    response_model=None,
    responses={
        200: {"model": Answer | Replayed, "description": "The answer to a query, or where other work has gone to"},
        **problems(ProblemType.NOT_FOUND, ProblemType.STAGE_UNAVAILABLE, ProblemType.STAGE_FAILED),
    },
)
@requires(Action.ADMIN)
async def replay(
    seq: Sequence,
    request: Request,
    settings: SettingsDependency,
    dead_letters: DeadLettersDependency,
    queries: QueriesDependency,
) -> Replayed | Response:
    """Puts the work back on its queue, with a fresh deadline, and forgets the dead letter.

    A query is answered here; what fails again becomes a dead letter again.
    """
    query = await dead_letters.query(seq, partial(reply_subject, settings.instance))
    if query is None:
        return Replayed(subject=await dead_letters.replay(seq))
    return await whole_answer(request, queries, query, QueryFormatter(), partial(dead_letters.forget, seq))
