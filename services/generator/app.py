"""The generator: takes `query.generate`, `query.condense` and `query.expand`, both lanes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec

from services.generator.engines import Engine, EngineConfig, VLLMConfig, create_engine
from services.generator.engines.engine_watchdog import watch_engine
from services.generator.engines.metrics import MeasuredEngine
from services.generator.engines.vllm import VLLMEngine
from services.generator.engines.vllm.packaged import convert
from services.generator.grounding.sentence_embedder import SentenceEmbedder
from services.generator.prompting.templating import TemplateError
from services.generator.settings import GeneratorSettings
from services.generator.stages.condense import Condense
from services.generator.stages.expand import Expand
from services.generator.stages.generate import Generate
from services.generator.streaming.support_review import SupportReview
from shared.contracts.envelope import Lane, Passage, Query, Stop
from shared.contracts.generation import GenerateParams
from shared.runtime.replies import GENERATORS
from shared.runtime.requester import Requester
from shared.runtime.stage import Stage
from shared.service.service import ASGIApp, Service

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
CANARY_PARAMS = GenerateParams(max_tokens=16).encode()


def make(settings: GeneratorSettings) -> tuple[Service, ASGIApp]:
    """The service and its ASGI app. Exits with a message when the engine or a template cannot be what is set."""
    config = _config(settings)

    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[Sequence[Stage]]:
        if settings.packaged is not None:
            await convert(settings.packaged, settings.models_dir, service.starting)
            service.starting(f"loading {settings.packaged.name}")
        bare = create_engine(config)
        engine = MeasuredEngine(bare)
        await engine.start()
        try:
            async with watch_engine(service, bare):
                support = _support(service, settings)
                generate = _generate(engine, settings, support, settings.generator_variant)
                yield [generate, *_adapted(engine, settings, support), *_rewriters(engine, settings)]
        finally:
            await engine.close()

    service = Service("generator", settings, setup)
    return service, service.asgi()


def _config(settings: GeneratorSettings) -> EngineConfig:
    try:
        settings.prompt_templates  # noqa: B018  (every engine needs them sooner or later)
        config = settings.engine_config
    except TemplateError as error:
        raise SystemExit(f"generator: {error}") from None
    if isinstance(config, VLLMConfig) and (obstacle := _vllm_obstacle(settings, config)):
        raise SystemExit(f"generator: {obstacle}")
    return config


def _vllm_obstacle(settings: GeneratorSettings, config: VLLMConfig) -> str:
    """Why the engine cannot start; a packaged model is not there yet before the first start."""
    if settings.packaged is None or find_spec("vllm") is None:
        return VLLMEngine.obstacle(config)
    return settings.packaged.obstacle(settings.models_dir)


def _support(service: Service, settings: GeneratorSettings) -> SupportReview:
    """How answers are reviewed. The embedding model is the embedder's, which is asked once for each answer."""
    bus, seconds = service.bus, settings.support_seconds
    lanes = {
        lane: Requester(bus.client, bus.jetstream, bus.topology, name=GENERATORS, seconds=seconds, tries=1, lane=lane)
        for lane in Lane
    }
    return SupportReview(
        policy=settings.unsupported,
        attribute=settings.packaged is not None if settings.attribute is None else settings.attribute,
        embed=SentenceEmbedder(lanes) if seconds > 0 else None,
        seconds=seconds,
    )


def _generate(
    engine: Engine, settings: GeneratorSettings, support: SupportReview, variant: str, adapter: str = ""
) -> Stage:
    return Stage(
        name="generate",
        variant=variant,
        process=Generate(engine, adapter, settings.stream_interval, support, declines=settings.decline),
        room=engine.room,
        batch_room=min(settings.generator_batch_room, engine.room),
        canary=CANARY.model_copy(update={"slip": (Stop(stage="generate", variant=variant, params=CANARY_PARAMS),)}),
        model=adapter or engine.model,
    )


def _rewriters(engine: Engine, settings: GeneratorSettings) -> list[Stage]:
    """The stages in which the engine prepares a question for its search."""
    return [
        Stage(
            name=name,
            variant=settings.generator_variant,
            process=process,
            room=engine.room,
            batch_room=min(settings.generator_batch_room, engine.room),
        )
        for name, process in (
            ("condense", Condense(engine, settings.prompt_templates)),
            ("expand", Expand(engine, settings.prompt_templates)),
        )
    ]


def _adapted(engine: Engine, settings: GeneratorSettings, support: SupportReview) -> list[Stage]:
    return [_generate(engine, settings, support, adapter, adapter) for adapter in engine.adapters]
