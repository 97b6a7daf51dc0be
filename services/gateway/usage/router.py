"""/v1/usage: what has been used, by day, tenant, key and model"""

from datetime import date, timedelta
from typing import Annotated, Final

from fastapi import Query

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import SettingsDependency, UsageRecorderDependency, UsageStoreDependency
from services.gateway.http.openapi import problems
from services.gateway.http.problems import invalid_member
from services.gateway.usage.recorder import today
from services.gateway.usage.service import Dimension, parse_dimensions, summarize
from services.gateway.usage.store import EVERY_TENANT
from shared.contracts.keys import Action
from sluice.api.usage import UsageReport

__all__ = ["router"]

router = authenticated_router("usage")

MOST_DAYS: Final = 400
"""Days of one report."""

USUAL_DAYS: Final = 30

Day = Annotated[date | None, Query(ge=date(2000, 1, 1), le=date(2999, 12, 31))]


@router.get("/v1/usage", summary="Sum up requests, tokens and costs", responses=problems())
@requires(Action.READ)
async def report(
    principal: PrincipalDependency,
    settings: SettingsDependency,
    recorder: UsageRecorderDependency,
    store: UsageStoreDependency,
    start: Annotated[Day, Query(description="The first day (UTC); without one, 30 days end with the last.")] = None,
    end: Annotated[Day, Query(description="The last day (UTC); today if none is given.")] = None,
    by: Annotated[
        str, Query(max_length=100, description="Some of `day`, `tenant`, `key`, `model`, separated by commas.")
    ] = "day",
    tenant: Annotated[
        str | None,
        Query(
            pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_-]{0,63})$",
            description="Another tenant, or `*` for all; that takes the action `admin`.",
        ),
    ] = None,
) -> UsageReport:
    """Answered requests of the caller's tenant, 400 days at most. `by=tenant` is for all tenants, and for admins.

    Counts of other gateways are up to 10 s old. Without a price in SLUICE_PRICES a model has no cost.
    """
    dimensions = parse_dimensions(by)
    if tenant is None:
        tenant = EVERY_TENANT if Dimension.TENANT in dimensions else principal.tenant
    if tenant != principal.tenant:
        principal.need(Action.ADMIN)
    end = end or today()
    start = start or end - timedelta(days=USUAL_DAYS - 1)
    if not 0 <= (end - start).days < MOST_DAYS:
        raise invalid_member("start", f"give a day of the {MOST_DAYS} days up to the end, {end}")
    await recorder.write(store)
    rows, total = await summarize(store.rows(tenant, start, end), dimensions, settings.prices)
    return UsageReport(
        start=start,
        end=end,
        by=tuple(dimensions),
        tenant=tenant,
        currency=settings.currency if settings.prices else None,
        rows=rows,
        total=total,
    )
