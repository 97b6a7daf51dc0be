"""The predictor: takes `query.predict`, both lanes, and calls of other predictors; receives `control.model.unload`."""

import logging
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

from nats.aio.msg import Msg
from pydantic import ValidationError

from services.predictor.peers.directory import PeerDirectory
from services.predictor.peers.peers import Peers
from services.predictor.repository.bucket import BucketCopy, is_bucket
from services.predictor.repository.loader import Loader
from services.predictor.repository.pool import ModelPool, PoolOptions
from services.predictor.repository.repository import Repository
from services.predictor.settings import PredictorSettings
from services.predictor.stages.predict import Predict
from shared.contracts.envelope import Query
from shared.contracts.inference import PREDICT, UNLOAD, Call, Unload, Verb
from shared.runtime.stage import Stage
from shared.service.service import ASGIApp, Service
from shared.stores.tensors import TensorStore

__all__ = ["make"]

log = logging.getLogger(__name__)

CALLS_PER_CPU: Final = 2


def make(settings: PredictorSettings) -> tuple[Service, ASGIApp]:
    """The service and its ASGI app. Exits with a message without a model repository."""
    repository_folder = _repository_folder(settings)

    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[Sequence[Stage]]:
        directory = PeerDirectory(secrets.token_hex(8))
        pool = ModelPool(_options(settings), Loader(settings.framework_options), is_spare=directory.is_spare)
        peers = Peers(
            service.bus.client,
            directory,
            pool,
            variant=settings.predictor_variant,
            room=settings.predictor_room,
            draining=service.draining,
        )
        service.starting("reading the model repository")
        async with pool.running(), repository_folder as folder, _followed(settings, folder, pool) as repository:
            await _listen(service, pool)
            tensors = TensorStore(service.bus.jetstream)
            predict = Predict(repository, pool, peers, tensors, longest=settings.max_tensor_bytes)
            async with peers.running(predict.infer_in_memory):
                yield [_stage(settings, predict)]

    service = Service("predictor", settings, setup)
    return service, service.asgi()


def _repository_folder(settings: PredictorSettings) -> AbstractAsyncContextManager[Path]:
    """Within its block the folder with the models. Exits with a message where there can be none."""
    named = settings.model_repository
    if not is_bucket(named):
        if not named or not Path(named).is_dir():
            said = f"names {named}, which is not a folder" if named else "is not set"
            raise SystemExit(f"predictor: SLUICE_MODEL_REPOSITORY {said}; it is the folder of the models, or a bucket")
        return nullcontext(Path(named))
    try:
        return BucketCopy(named, settings.copy_folder, seconds=settings.predictor_bucket_seconds).running()
    except ValueError as error:
        raise SystemExit(f"predictor: SLUICE_MODEL_REPOSITORY {named} cannot be used: {error}") from None


@asynccontextmanager
async def _followed(settings: PredictorSettings, folder: Path, pool: ModelPool) -> AsyncIterator[Repository]:
    """The repository; what it does not have any more leaves the pool."""
    repository = Repository(
        folder,
        seconds=settings.predictor_poll_seconds,
        changed=lambda: pool.keep_only(repository.versions),
    )
    async with repository.running():
        yield repository


def _options(settings: PredictorSettings) -> PoolOptions:
    return PoolOptions(
        budget=settings.predictor_memory_mb * 2**20,
        models=settings.predictor_models,
        loads=settings.predictor_loads,
        calls=settings.predictor_threads or CALLS_PER_CPU * (os.cpu_count() or 1),
        batch_rows=settings.predictor_batch_size,
        retry_seconds=settings.predictor_retry_seconds,
    )


def _stage(settings: PredictorSettings, process: Predict) -> Stage:
    canary = Call(verb=Verb.INDEX, model="canary").stop(settings.predictor_variant)
    return Stage(
        name=PREDICT,
        variant=settings.predictor_variant,
        process=process,
        room=settings.predictor_room,
        batch_room=settings.predictor_batch_room,
        canary=Query(id="canary", asked_at=0, deadline=0, reply="-", slip=(canary,)),
    )


async def _listen(service: Service, pool: ModelPool) -> None:
    async def unload(message: Msg) -> None:
        try:
            wanted = Unload.model_validate_json(message.data)
        except ValidationError:
            return
        log.info("unloading", extra={"model": wanted.model, "version": wanted.version})
        pool.unload(wanted.model, wanted.version)

    await service.bus.client.subscribe(UNLOAD, cb=unload)
