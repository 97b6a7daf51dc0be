"""/v1/schedules"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response, status

from services.gateway.backend import TENANT, BackendParameter
from services.gateway.bodies import read_json, refuse_other_sites
from services.gateway.idempotency import IdempotencyKey, job_for
from services.gateway.models import JobBody
from services.gateway.openapi import body, problems
from services.gateway.schedules import NewSchedule, ScheduleBody, ScheduleList, schedule_from
from shared.problems import ProblemType
from shared.schedules import Schedules

__all__ = ["router"]

router = APIRouter(tags=["schedules"])

MAX_BODY: Final = 512 * 1024


def _schedules(backend: BackendParameter) -> Schedules:
    return Schedules(backend.bus.jetstream)


SchedulesParameter = Annotated[Schedules, Depends(_schedules)]


@router.get("/v1/schedules", summary="List schedules", responses=problems())
async def list_all(schedules: SchedulesParameter) -> ScheduleList:
    """All schedules by name."""
    return ScheduleList(schedules=[ScheduleBody.of(schedule) for schedule in await schedules.list(TENANT)])


@router.get("/v1/schedules/{name}", summary="Look at a schedule", responses=problems(ProblemType.NOT_FOUND))
async def get(name: str, schedules: SchedulesParameter) -> ScheduleBody:
    return ScheduleBody.of(await schedules.get(TENANT, name))


@router.put(
    "/v1/schedules/{name}",
    summary="Create or replace a schedule",
    openapi_extra=body(json=NewSchedule),
    responses={201: {"model": ScheduleBody}, **problems(ProblemType.INVALID_NAME, ProblemType.TOO_LARGE)},
)
async def put(name: str, request: Request, response: Response, schedules: SchedulesParameter) -> ScheduleBody:
    """Submits a job at each tick. An interval begins anew only where the timing has changed."""
    asked = await read_json(request, NewSchedule, MAX_BODY)
    kept, new = await schedules.put(schedule_from(TENANT, name, asked))
    response.status_code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
    return ScheduleBody.of(kept)


@router.delete(
    "/v1/schedules/{name}",
    summary="Remove a schedule",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND),
)
async def delete(name: str, schedules: SchedulesParameter) -> None:
    """What it has submitted goes on."""
    await schedules.delete(TENANT, name)


@router.post(
    "/v1/schedules/{name}/pause",
    summary="Pause a schedule",
    dependencies=[Depends(refuse_other_sites)],
    responses=problems(ProblemType.NOT_FOUND),
)
async def pause(name: str, schedules: SchedulesParameter) -> ScheduleBody:
    """Submits nothing until it is resumed."""
    return ScheduleBody.of(await schedules.pause(TENANT, name))


@router.post(
    "/v1/schedules/{name}/resume",
    summary="Resume a schedule",
    dependencies=[Depends(refuse_other_sites)],
    responses=problems(ProblemType.NOT_FOUND),
)
async def resume(name: str, schedules: SchedulesParameter) -> ScheduleBody:
    """Goes on with the next tick."""
    return ScheduleBody.of(await schedules.resume(TENANT, name))


@router.post(
    "/v1/schedules/{name}/trigger",
    summary="Submit a schedule's job now",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[Depends(refuse_other_sites)],
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL),
)
async def trigger(
    name: str,
    response: Response,
    backend: BackendParameter,
    schedules: SchedulesParameter,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """Whether it is paused or not, and whatever still runs."""
    schedule = await schedules.get(TENANT, name)
    options = schedule.job_options(by=f"schedule {name}")
    job, _ = await backend.jobs.submit(schedule.spec, job=job_for(idempotency_key), tenant=TENANT, options=options)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobBody(job=job)
