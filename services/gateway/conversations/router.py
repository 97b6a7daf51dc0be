"""/v1/conversations: the console's conversations, where they are kept on the server"""

from typing import Annotated, Final

from fastapi import Path, Request, Response, status

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.context import PrincipalDependency
from services.gateway.conversations.models import LARGEST, StoredConversation
from services.gateway.dependencies import ConversationsDependency, SettingsDependency
from services.gateway.http.body import read_json
from services.gateway.http.openapi import problems, request_body
from services.gateway.http.preconditions import IfMatch, entity_tag
from services.gateway.settings import ConversationPlace, GatewaySettings
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from sluice.api.conversations import Conversation, ConversationList, ConversationSummary

__all__ = ["router"]

router = authenticated_router("conversations")

MISSING: Final = problems(ProblemType.NOT_FOUND)

ConversationId = Annotated[
    str, Path(pattern=r"^[a-z0-9]{8,64}$", description="What its owner calls it: small letters and digits.")
]


@router.get("/v1/conversations", summary="List your conversations", responses=MISSING)
@requires(Action.QUERY)
async def list_all(
    conversations: ConversationsDependency, principal: PrincipalDependency, settings: SettingsDependency
) -> ConversationList:
    """Those of the key or person that asks, the last changed first. Of nobody else's is anything shown."""
    found = await conversations.list(principal.tenant, _owner(principal, settings))
    return ConversationList(conversations=tuple(ConversationSummary.model_validate(one) for one in found))


@router.get("/v1/conversations/{conversation}", summary="Read a conversation", responses=MISSING)
@requires(Action.QUERY)
async def get(
    conversation: ConversationId,
    response: Response,
    conversations: ConversationsDependency,
    principal: PrincipalDependency,
    settings: SettingsDependency,
) -> Conversation:
    """Its `ETag` is the revision, by which `PUT` replaces no other one."""
    found = await conversations.get(principal.tenant, _owner(principal, settings), conversation)
    response.headers["ETag"] = entity_tag(found.revision)
    return Conversation.model_validate(found.record)


@router.put(
    "/v1/conversations/{conversation}",
    summary="Keep a conversation",
    openapi_extra=request_body(json=StoredConversation),
    responses=problems(
        ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.PRECONDITION_FAILED, ProblemType.TOO_LARGE
    ),
)
@requires(Action.QUERY)
async def put(
    conversation: ConversationId,
    request: Request,
    response: Response,
    conversations: ConversationsDependency,
    principal: PrincipalDependency,
    settings: SettingsDependency,
    if_match: IfMatch = None,
) -> ConversationSummary:
    """Writes it whole; with `If-Match` only over what its writer has read.

    It goes when nobody has gone on with it for long, or when 200 others have come since.
    """
    owner = _owner(principal, settings)
    content = await read_json(request, StoredConversation, LARGEST)
    summary, revision = await conversations.put(principal.tenant, owner, conversation, content, if_match=if_match)
    response.headers["ETag"] = entity_tag(revision)
    return ConversationSummary.model_validate(summary)


@router.delete(
    "/v1/conversations/{conversation}",
    summary="Delete a conversation",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT),
)
@requires(Action.QUERY)
async def delete(
    conversation: ConversationId,
    conversations: ConversationsDependency,
    principal: PrincipalDependency,
    settings: SettingsDependency,
) -> None:
    await conversations.delete(principal.tenant, _owner(principal, settings), conversation)


@router.delete(
    "/v1/conversations",
    summary="Delete all your conversations",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT),
)
@requires(Action.QUERY)
async def delete_all(
    conversations: ConversationsDependency, principal: PrincipalDependency, settings: SettingsDependency
) -> None:
    await conversations.delete_all(principal.tenant, _owner(principal, settings))


def _owner(principal: Principal, settings: GatewaySettings) -> str:
    """Raises Problem NOT_FOUND where conversations are not kept, or nobody could tell whose they are."""
    if settings.conversations is not ConversationPlace.SERVER or not principal.key:
        detail = "This gateway keeps no conversations: that takes SLUICE_CONVERSATIONS=server, and keys."
        raise Problem(ProblemType.NOT_FOUND, detail)
    # An application's key is of many people, whom the request names.
    return f"{principal.key} {principal.user}" if principal.user and not principal.person else principal.key
