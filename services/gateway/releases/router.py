"""/v1/releases: what answers collections, and the way back"""

from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request, Response, status

from services.gateway.answers.service import kept_answer
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    AnswersDependency,
    ArtifactsDependency,
    CollectionCacheDependency,
    CollectionsDependency,
    JobsDependency,
    ModelsDependency,
    ModelStoreDependency,
    PipelinesDependency,
    ReleasesDependency,
    SelectorDependency,
)
from services.gateway.http.body import read_json
from services.gateway.http.models import JobBody
from services.gateway.http.openapi import problems, request_body
from services.gateway.jobs.idempotency import IdempotencyKey, job_id_for
from services.gateway.jobs.service import accepted, submit
from services.gateway.releases.lineage import Origins
from services.gateway.releases.models import Named, NewRelease, Promotion, Rollback
from services.gateway.releases.service import (
    create_release,
    described,
    for_caller,
    generators,
    listed,
    need_release,
    need_runs,
)
from shared.contracts.jobs import JobOptions, PromoteSpec
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from sluice.api.releases import Lineage, ModelOrigin, Release, ReleaseList

__all__ = ["router"]

router = authenticated_router("releases")

MAX_BODY: Final = 4 * 2**20


async def _origins(models: ModelStoreDependency, jobs: JobsDependency, artifacts: ArtifactsDependency) -> Origins:
    return Origins(models=models, jobs=jobs, artifacts=artifacts)


OriginsDependency = Annotated[Origins, Depends(_origins)]


@router.get("/v1/releases", summary="List releases", responses=problems())
@requires(Action.READ)
async def list_all(
    releases: ReleasesDependency,
    collections: CollectionsDependency,
    principal: PrincipalDependency,
    collection: Annotated[str | None, Query(description="Only those of this collection.")] = None,
) -> ReleaseList:
    """The newest first, of the collections that the key is for."""
    return ReleaseList(releases=tuple(await listed(releases, collections, principal, collection)))


@router.post(
    "/v1/releases",
    summary="Make a release of a version of a collection",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=request_body(json=NewRelease),
    response_model=Release,
    responses=problems(
        ProblemType.COLLECTION_NOT_FOUND,
        ProblemType.NOT_FOUND,
        ProblemType.MODEL_NOT_FOUND,
        ProblemType.PIPELINE_NOT_FOUND,
        ProblemType.VERSION_NOT_READY,
        ProblemType.TOO_LARGE,
    ),
)
@requires(Action.WRITE)
async def create(
    request: Request,
    releases: ReleasesDependency,
    collections: CollectionsDependency,
    cache: CollectionCacheDependency,
    origins: OriginsDependency,
    pipelines: PipelinesDependency,
    models: ModelsDependency,
    selector: SelectorDependency,
    jobs: JobsDependency,
    principal: PrincipalDependency,
) -> Release:
    """What the version says now is written down with where its models are from. The same again is the same release."""
    body = await read_json(request, NewRelease, MAX_BODY)
    principal.need_collection(body.collection)
    await need_runs(jobs, cache, principal, body.evaluations)
    running = await generators(models, selector.routes)
    made = await create_release(releases, collections, origins, pipelines, running, principal, body)
    cache.forget(principal.tenant, body.collection)
    return await described(releases, collections, made, principal)


@router.get("/v1/releases/{release}", summary="Look at a release", responses=problems(ProblemType.NOT_FOUND))
@requires(Action.READ)
async def get(
    release: Named, releases: ReleasesDependency, collections: CollectionsDependency, principal: PrincipalDependency
) -> Release:
    found = need_release(principal, await releases.find(principal.tenant, release))
    return await described(releases, collections, found, principal)


@router.delete(
    "/v1/releases/{release}",
    summary="Delete a release",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT),
)
@requires(Action.WRITE)
async def delete(
    release: Named, releases: ReleasesDependency, collections: CollectionsDependency, principal: PrincipalDependency
) -> None:
    """Its version of the collection and its models stay. Refused while it is live or a canary."""
    found = need_release(principal, await releases.find(principal.tenant, release))
    stage = (await described(releases, collections, found, principal)).stage
    if stage in ("live", "canary"):
        raise Problem(ProblemType.CONFLICT, f"The release '{found.name}' is {stage}. Promote another one first.")
    await releases.delete(found)


@router.post(
    "/v1/releases/{release}/promote",
    summary="Make a release live",
    status_code=status.HTTP_202_ACCEPTED,
    openapi_extra=request_body(json=Promotion),
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL),
)
@requires(Action.WRITE)
async def promote(
    release: Named,
    request: Request,
    response: Response,
    releases: ReleasesDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """A job does it: the collection is never without an index, and `rollback` is the way back."""
    body = await read_json(request, Promotion, MAX_BODY)
    found = need_release(principal, await releases.find(principal.tenant, release))
    spec = PromoteSpec(collection=found.content.collection, release=found.name, **body.model_dump())
    job = job_id_for(principal, idempotency_key)
    return accepted(response, await submit(jobs, cache, principal, job, spec, JobOptions()))


@router.post(
    "/v1/releases/rollback",
    summary="Go back to the release that was live before",
    status_code=status.HTTP_202_ACCEPTED,
    openapi_extra=request_body(json=Rollback),
    responses=problems(ProblemType.COLLECTION_NOT_FOUND, ProblemType.CONFLICT, ProblemType.QUEUE_FULL),
)
@requires(Action.WRITE)
async def rollback(
    request: Request,
    response: Response,
    collections: CollectionsDependency,
    jobs: JobsDependency,
    cache: CollectionCacheDependency,
    principal: PrincipalDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """Or to the version that was live before, where that is no release."""
    body = await read_json(request, Rollback, MAX_BODY)
    await collections.get(principal.tenant, principal.need_collection(body.collection))
    spec = PromoteSpec(**body.model_dump())
    job = job_id_for(principal, idempotency_key)
    return accepted(response, await submit(jobs, cache, principal, job, spec, JobOptions()))


@router.put(
    "/v1/releases/{release}/aliases/{alias}",
    summary="Give a release an alias",
    responses=problems(ProblemType.NOT_FOUND, ProblemType.INVALID_NAME),
)
@requires(Action.WRITE)
async def set_alias(
    release: Named,
    alias: str,
    releases: ReleasesDependency,
    collections: CollectionsDependency,
    principal: PrincipalDependency,
) -> Release:
    """`<collection>@<alias>` then means this release, and no other one of its collection."""
    found = need_release(principal, await releases.find(principal.tenant, release))
    await releases.set_alias(found, alias)
    return await described(releases, collections, found, principal)


@router.delete(
    "/v1/releases/{release}/aliases/{alias}",
    summary="Take an alias from a release",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(ProblemType.NOT_FOUND),
)
@requires(Action.WRITE)
async def remove_alias(
    release: Named, alias: str, releases: ReleasesDependency, principal: PrincipalDependency
) -> None:
    """One that it does not have is no error."""
    found = need_release(principal, await releases.find(principal.tenant, release))
    aliases = await releases.aliases(principal.tenant, found.content.collection)
    if aliases.get(alias) == found.name:
        await releases.remove_alias(principal.tenant, found.content.collection, alias)


@router.get(
    "/v1/releases/{release}/lineage", summary="Where a release is from", responses=problems(ProblemType.NOT_FOUND)
)
@requires(Action.READ)
async def lineage(
    release: Named,
    releases: ReleasesDependency,
    collections: CollectionsDependency,
    origins: OriginsDependency,
    principal: PrincipalDependency,
) -> Lineage:
    """Its models, the jobs that trained them, the data sets that these used, and their sources."""
    found = need_release(principal, await releases.find(principal.tenant, release))
    models = for_caller(_shown(await origins.refreshed(found)), principal)
    shown = await described(releases, collections, found, principal)
    return Lineage(
        collection=found.content.collection,
        version=found.content.version,
        release=shown,
        models=models,
        evaluations=shown.evaluations,
    )


@router.get(
    "/v1/answers/{answer}/lineage", summary="Where an answer is from", responses=problems(ProblemType.NOT_FOUND)
)
@requires(Action.QUERY, Action.READ)
async def answer_lineage(
    answer: str,
    answers: AnswersDependency,
    releases: ReleasesDependency,
    collections: CollectionsDependency,
    origins: OriginsDependency,
    principal: PrincipalDependency,
) -> Lineage:
    """Of an answer that is kept: the release or version that gave it, and where its models are from."""
    kept = await kept_answer(answers, principal, answer)
    names = frozenset({kept.embedding_model, kept.rerank_model} - {""})
    models = for_caller(_shown(await origins.known(principal.tenant, names)), principal)
    shown: Release | None = None
    if kept.release:
        try:
            found = need_release(principal, await releases.get(principal.tenant, kept.release))
        except Problem:
            pass  # it was deleted, or is not for this key: the answer itself says the rest
        else:
            shown = await described(releases, collections, found, principal)
            models = for_caller(_shown(await origins.refreshed(found)), principal)
    return Lineage(
        answer=kept.id,
        trace_id=kept.trace_id,
        collection=kept.collection,
        version=kept.collection_version,
        release=shown,
        models=models,
        evaluations=shown.evaluations if shown else (),
    )


def _shown(origins: tuple[Any, ...]) -> tuple[ModelOrigin, ...]:
    return tuple(ModelOrigin.model_validate(origin.model_dump(mode="json")) for origin in origins)
