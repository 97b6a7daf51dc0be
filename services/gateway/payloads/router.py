"""/v1/payloads: requests and responses of models that are logged"""

from typing import Annotated

from fastapi import Query

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import PayloadsDependency
from services.gateway.http.openapi import problems
from services.gateway.http.paging import Before, Limit, page_of
from services.gateway.payloads.service import shown
from shared.contracts.inference import MODEL_NAME
from shared.contracts.keys import Action
from shared.contracts.payloads import PayloadKind
from shared.nats.kv import Stored
from sluice.api.payloads import Payload, PayloadPage

__all__ = ["router"]

router = authenticated_router("inference")


@router.get("/v1/payloads", summary="List the logged requests and responses of models", responses=problems())
@requires(Action.ADMIN)
async def list_all(
    payloads: PayloadsDependency,
    principal: PrincipalDependency,
    model: Annotated[str | None, Query(pattern=MODEL_NAME, description="Only of this model.")] = None,
    kind: Annotated[PayloadKind | None, Query(description="Only requests, or responses.")] = None,
    call: Annotated[str | None, Query(alias="id", max_length=100, description="Only of the call with this id.")] = None,
    limit: Limit = 20,
    before: Before = None,
) -> PayloadPage:
    """Those of the tenant, the last logged first. SLUICE_PAYLOADS says what is logged."""
    tenant = principal.tenant

    def admits(payload: Payload) -> bool:
        return call in (None, payload.id)

    async def read(count: int, last: int | None) -> list[Stored[Payload]]:
        found = await payloads.newest(tenant, model, kind, count, last)
        return [Stored(shown(stored), stored.revision) for stored in found]

    found, following = await page_of(read, limit, before, admits)
    return PayloadPage(payloads=tuple(found), next=following)
