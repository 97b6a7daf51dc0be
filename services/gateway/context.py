"""On whose behalf, on which lane and by which deadline a request is served."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.types import Scope

from services.gateway.auth.principal import ANONYMOUS, Principal
from services.gateway.usage.recorder import UsageRecorder
from shared.contracts.envelope import Lane
from shared.contracts.events import Usage

__all__ = ["AUDIT_DETAILS", "REQUEST_CONTEXT", "PrincipalDependency", "RequestContext", "charge_tokens", "context_of"]

REQUEST_CONTEXT: Final = "sluice.request_context"
"""Member of an ASGI scope: the `RequestContext`."""

AUDIT_DETAILS: Final = "sluice.audit_details"
"""The same: a dict of what else the audit log says of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """A `deadline` (Unix seconds) takes precedence over any timeout that the request names. `latest` only bounds it:
    then the client stops waiting."""

    lane: Lane = Lane.INTERACTIVE
    principal: Principal = ANONYMOUS
    deadline: float | None = None
    latest: float | None = None

    @property
    def tenant(self) -> str:
        return self.principal.tenant


def context_of(request: Request) -> RequestContext:
    """The context of a request. Every endpoint is authenticated, so there is one."""
    context: RequestContext = request.scope[REQUEST_CONTEXT]
    return context


def charge_tokens(scope: Scope, model: str, usage: Usage) -> None:
    """Count the tokens of one answer: against the limit of the caller's key, and as usage of the tenant.

    `model` is empty where it is not known.
    """
    context: RequestContext = scope[REQUEST_CONTEXT]
    principal, recorder = context.principal, scope["app"].state.gateway.usage
    assert isinstance(recorder, UsageRecorder)
    principal.spend(usage.prompt_tokens + usage.completion_tokens)
    recorder.record(principal.tenant, principal.key, model, usage)


async def _principal(request: Request) -> Principal:
    return context_of(request).principal


PrincipalDependency = Annotated[Principal, Depends(_principal)]
