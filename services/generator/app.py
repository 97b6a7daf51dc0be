"""The generator: takes `query.generate`, both lanes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.generator.engines import Engine, create_engine
from services.generator.generation import Generation
from services.generator.settings import GeneratorSettings
from shared.envelope import Passage, Query
from shared.service import ASGIApp, Service
from shared.stage import Stage

__all__ = ["make"]

CANARY = Query(
    id="canary",
    asked_at=0,
    deadline=0,
    reply="-",
    slip=(),
    question="What sings in the mine?",
    passages=(Passage(id="0", document_id="0", document="canary", position=0, text="The canary sings in the mine."),),
)


def make(settings: GeneratorSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(_: Service) -> AsyncIterator[Sequence[Stage]]:
        engine = create_engine(settings.engine_config)
        await engine.start()
        try:
            yield [_stage(engine, settings, settings.generator_variant), *_adapted(engine, settings)]
        finally:
            await engine.close()

    service = Service("generator", settings, setup)
    return service, service.asgi()


def _stage(engine: Engine, settings: GeneratorSettings, variant: str, adapter: str = "") -> Stage:
    return Stage(
        name="generate",
        variant=variant,
        process=Generation(engine, adapter),
        room=engine.room,
        batch_room=min(settings.generator_batch_room, engine.room),
        canary=CANARY,
        model=adapter or engine.model,
    )


def _adapted(engine: Engine, settings: GeneratorSettings) -> list[Stage]:
    return [_stage(engine, settings, adapter, adapter) for adapter in engine.adapters]
