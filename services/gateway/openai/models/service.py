"""The models that can be asked: those of the engines, those that embed, and each collection."""

from collections import defaultdict

from services.gateway.auth.principal import Principal
from services.gateway.openai.models.model_registry import MODELS, Model, ModelRegistry
from services.gateway.openai.planner import DEFAULT_COLLECTION, RAG
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collection_index import CollectionIndex
from shared.stores.collections import Collections
from sluice.api.openai import ModelBody, ModelPlace

__all__ = ["find_model", "list_models"]


async def list_models(index: CollectionIndex, models: ModelRegistry, principal: Principal) -> list[ModelBody]:
    """All that the caller may ask, those of the engines first."""
    collections = await index.created(principal.tenant, sees=principal.sees)
    return [
        *_engine_models(await models.all()),
        *(_collection_model(f"{RAG}/{name}", created) for name, created in collections),
    ]


async def find_model(collections: Collections, models: ModelRegistry, principal: Principal, name: str) -> ModelBody:
    """Raises Problem MODEL_NOT_FOUND."""
    for model in _engine_models(await models.all()):
        if name == model.id:
            return model
    place, _, collection = name.partition("/")
    collection = DEFAULT_COLLECTION if name == RAG else collection
    if place == RAG and collection and principal.sees(collection):
        try:
            return _collection_model(name, (await collections.get(principal.tenant, collection)).created_at)
        except Problem:
            pass
    raise Problem(
        ProblemType.MODEL_NOT_FOUND,
        f"There is no model {name[:80]!r}. GET /v1/models lists those that there are.",
        param="model",
    )


def _engine_models(models: tuple[Model, ...]) -> list[ModelBody]:
    by_name: defaultdict[tuple[str, str], list[Model]] = defaultdict(list)
    for model in models:
        by_name[model.stage, model.name].append(model)
    return [
        ModelBody(
            id=name,
            created=int(min(model.since for model in found)),
            sluice=ModelPlace.model_validate({"stage": stage, "variants": sorted({model.variant for model in found})}),
        )
        for (stage, name), found in sorted(by_name.items(), key=_listed)
    ]


def _listed(entry: tuple[tuple[str, str], list[Model]]) -> tuple[int, str]:
    (stage, name), _ = entry
    return MODELS.index(stage), name


def _collection_model(name: str, created: float) -> ModelBody:
    return ModelBody(id=name, created=int(created), sluice=ModelPlace(stage="collection"))
