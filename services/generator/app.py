"""The generator: takes `query.generate`, both lanes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.generator.engines import create_engine
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
            yield [
                Stage(
                    name="generate",
                    variant=settings.generator_variant,
                    process=Generation(engine),
                    room=settings.generator_room,
                    batch_room=settings.generator_batch_room,
                    canary=CANARY,
                )
            ]
        finally:
            await engine.close()

    service = Service("generator", settings, setup)
    return service, service.asgi()
