"""/v1/schedules"""

import asyncio
from typing import Annotated, Final

from fastapi import Depends, Request, Response, status

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import BusDependency, JobsDependency
from services.gateway.http.body import read_json, refuse_other_sites
from services.gateway.http.models import JobBody
from services.gateway.http.openapi import problems, request_body
from services.gateway.jobs.idempotency import IdempotencyKey, job_id_for
from services.gateway.jobs.service import accepted
from services.gateway.schedules.service import NewSchedule, ScheduleBody, ScheduleList, schedule_from
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from shared.contracts.schedules import Schedule
from shared.stores.schedules import Schedules

__all__ = ["router"]

router = authenticated_router("schedules")

MAX_BODY: Final = 512 * 1024


def _schedules(bus: BusDependency) -> Schedules:
    return Schedules(bus.jetstream)


SchedulesParameter = Annotated[Schedules, Depends(_schedules)]


@router.get("/v1/schedules", summary="List schedules", responses=problems())
@requires(Action.READ)
async def list_all(schedules: SchedulesParameter, principal: PrincipalDependency) -> ScheduleList:
    """All schedules by name."""
    return ScheduleList(
        schedules=[ScheduleBody.of(s, principal) for s in await schedules.list(principal.tenant) if _sees(principal, s)]
    )


@router.get("/v1/schedules/{name}", summary="Look at a schedule", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(name: str, schedules: SchedulesParameter, principal: PrincipalDependency) -> ScheduleBody:
    return ScheduleBody.of(await _schedule(schedules, principal, name), principal)


@router.put(
    "/v1/schedules/{name}",
    summary="Create or replace a schedule",
    openapi_extra=request_body(json=NewSchedule),
    responses={201: {"model": ScheduleBody}, **problems(ProblemType.INVALID_NAME, ProblemType.TOO_LARGE)},
)
@requires(Action.JOBS)
async def put(
    name: str, request: Request, response: Response, schedules: SchedulesParameter, principal: PrincipalDependency
) -> ScheduleBody:
    """Submits a job at each tick. An interval begins anew only where the timing has changed."""
    body = await read_json(request, NewSchedule, MAX_BODY)
    schedule = await asyncio.to_thread(schedule_from, principal, name, body)  # a pipeline takes a while
    kept, new = await schedules.put(schedule, allow=lambda known: _need(principal, known))
    response.status_code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
    return ScheduleBody.of(kept, principal)


@router.delete(
    "/v1/schedules/{name}",
    summary="Remove a schedule",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND),
)
@requires(Action.JOBS)
async def delete(name: str, schedules: SchedulesParameter, principal: PrincipalDependency) -> None:
    """What it has submitted goes on."""
    await _schedule(schedules, principal, name)
    await schedules.delete(principal.tenant, name)


@router.post(
    "/v1/schedules/{name}/pause",
    summary="Pause a schedule",
    dependencies=[Depends(refuse_other_sites)],
    responses=problems(ProblemType.NOT_FOUND),
)
@requires(Action.JOBS)
async def pause(name: str, schedules: SchedulesParameter, principal: PrincipalDependency) -> ScheduleBody:
    """Submits nothing until it is resumed."""
    await _schedule(schedules, principal, name)
    return ScheduleBody.of(await schedules.pause(principal.tenant, name), principal)


@router.post(
    "/v1/schedules/{name}/resume",
    summary="Resume a schedule",
    dependencies=[Depends(refuse_other_sites)],
    responses=problems(ProblemType.NOT_FOUND),
)
@requires(Action.JOBS)
async def resume(name: str, schedules: SchedulesParameter, principal: PrincipalDependency) -> ScheduleBody:
    """Goes on with the next tick. It takes what submitting the job takes, as its jobs follow."""
    principal.need_spec((await _schedule(schedules, principal, name)).spec)
    return ScheduleBody.of(await schedules.resume(principal.tenant, name), principal)


@router.post(
    "/v1/schedules/{name}/trigger",
    summary="Submit a schedule's job now",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[Depends(refuse_other_sites)],
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL),
)
@requires(Action.JOBS)
async def trigger(
    name: str,
    response: Response,
    jobs: JobsDependency,
    schedules: SchedulesParameter,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """Whether it is paused or not, and whatever still runs."""
    schedule = await _schedule(schedules, principal, name)
    spec = principal.need_spec(schedule.spec)
    options = schedule.job_options(by=principal.by(f"schedule {name}"))
    job = job_id_for(principal, idempotency_key)
    made, _ = await jobs.submit(spec, job=job, tenant=principal.tenant, options=options)
    return accepted(response, made)


async def _schedule(schedules: Schedules, principal: Principal, name: str) -> Schedule:
    """Raises Problem NOT_FOUND, or FORBIDDEN for one with a collection that the caller has no key for."""
    found = await schedules.get(principal.tenant, name)
    _need(principal, found)
    return found


def _need(principal: Principal, schedule: Schedule) -> None:
    """Raises Problem FORBIDDEN."""
    principal.need_collection(getattr(schedule.spec, "collection", ""))


def _sees(principal: Principal, schedule: Schedule) -> bool:
    return principal.sees(getattr(schedule.spec, "collection", ""))
