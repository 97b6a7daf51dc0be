"""/v1/session: who calls, and the console's sign-in"""

from typing import Final

from fastapi import Request, Response, status

from services.gateway.answers.recorder import AnswerRecorder
from services.gateway.auth.authenticator import Authenticator, api_key_of
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.auth.sessions import Session
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import AnswerRecorderDependency, AuthenticatorDependency, SettingsDependency
from services.gateway.http.openapi import problems
from services.gateway.settings import ConversationPlace, GatewaySettings
from shared.contracts.keys import Action
from sluice.api.sessions import Session as SessionBody

__all__ = ["router"]

router = authenticated_router("sessions")

PEOPLE: Final = tuple(action for action in Action if action is not Action.METRICS)
"""Actions of keys that allow something of the API: a key for monitoring alone is not a person's."""


@router.get("/v1/session", summary="See who the caller is", responses=problems())
@requires(*PEOPLE)
async def get(
    principal: PrincipalDependency,
    authenticator: AuthenticatorDependency,
    settings: SettingsDependency,
    recorder: AnswerRecorderDependency,
) -> SessionBody:
    """What the API key allows, or the session of the console."""
    return _session(principal, authenticator, settings, recorder)


@router.post("/v1/session", summary="Sign in to the console", responses=problems())
@requires(*PEOPLE)
async def create(
    request: Request,
    response: Response,
    principal: PrincipalDependency,
    authenticator: AuthenticatorDependency,
    settings: SettingsDependency,
    recorder: AnswerRecorderDependency,
) -> SessionBody:
    """Puts the API key of the request into a cookie that scripts cannot read. It ends after twelve hours."""
    key = api_key_of(request.scope["headers"])
    if authenticator.required and key is not None:
        authenticator.sessions.begin(request, response, Session(key=key))
    return _session(principal, authenticator, settings, recorder)


@router.delete(
    "/v1/session", summary="Sign out of the console", status_code=status.HTTP_204_NO_CONTENT, responses=problems()
)
@requires(*PEOPLE)
async def delete(request: Request, response: Response, authenticator: AuthenticatorDependency) -> None:
    """Takes the cookie away."""
    authenticator.sessions.end(request, response)


def _session(
    principal: Principal, authenticator: Authenticator, settings: GatewaySettings, recorder: AnswerRecorder
) -> SessionBody:
    return SessionBody(
        keys_required=authenticator.required,
        key=principal.key,
        name=principal.name,
        tenant=principal.tenant,
        actions=tuple(action.value for action in Action if action in principal.actions),
        collections=principal.collections,
        documents_hidden=not principal.sees_all,
        # Without a key nobody could tell whose they are.
        conversations=(settings.conversations if principal.key else ConversationPlace.BROWSER).value,
        feedback=recorder.keeps(principal.tenant) and principal.may(Action.QUERY, Action.READ),
    )
