"""/v1/models"""

from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import CollectionIndexDependency, CollectionsDependency, ModelsDependency
from services.gateway.openai.errors import errors
from services.gateway.openai.models.service import find_model, list_models
from services.gateway.openai.responses import ModelList
from shared.contracts.keys import Action
from shared.contracts.problems import ProblemType
from sluice.api.openai import ModelBody

__all__ = ["router"]

router = authenticated_router("openai")


@router.get("/v1/models", summary="List the models", responses=errors())
@requires(Action.QUERY, Action.READ)
async def models(
    index: CollectionIndexDependency, models: ModelsDependency, principal: PrincipalDependency
) -> ModelList:
    """The models of the engines, the models that embed, and `rag/<collection>` for each collection."""
    return ModelList(data=await list_models(index, models, principal))


@router.get("/v1/models/{model:path}", summary="Look at a model", responses=errors(ProblemType.MODEL_NOT_FOUND))
@requires(Action.QUERY, Action.READ)
async def model(
    model: str, collections: CollectionsDependency, models: ModelsDependency, principal: PrincipalDependency
) -> ModelBody:
    return await find_model(collections, models, principal, model)
