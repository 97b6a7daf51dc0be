"""The generator: takes `query.generate`, `query.condense` and `query.expand`, both lanes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

from services.generator.adapters import AdapterFiles, StoredAdapters, adapter_folders
from services.generator.engines import Engine, EngineConfig, VLLMConfig, create_engine
from services.generator.engines.engine_watchdog import watch_engine
from services.generator.engines.metrics import MeasuredEngine
from services.generator.engines.vllm import VLLMEngine
from services.generator.engines.vllm.packaged import convert
from services.generator.grounding.sentence_embedder import SentenceEmbedder
from services.generator.settings import GeneratorSettings
from services.generator.stages.condense import Condense
from services.generator.stages.expand import Expand
from services.generator.stages.generate import Generate
from services.generator.streaming.sentence_judge import SentenceJudge
from services.generator.streaming.support_review import SupportReview
from shared.contracts.envelope import Lane, Passage, Query, Stop
from shared.contracts.generation import GenerateParams
from shared.prompting.templating import TemplateError
from shared.runtime.replies import GENERATORS
from shared.runtime.requester import Requester
from shared.runtime.stage import Stage
from shared.service.service import ASGIApp, Service
from shared.stores.model_folder import ModelFolder, writable_folder
from shared.stores.models import ModelStore

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

JUDGE_SECONDS: Final = 2.0
"""Seconds for a model to judge a sentence, where a moderation names no other time."""


def make(settings: GeneratorSettings) -> tuple[Service, ASGIApp]:
    """The service and its ASGI app. Exits with a message when the engine or a template cannot be what is set."""
    config = _config(settings)

    @asynccontextmanager
    async def setup(service: Service) -> AsyncIterator[Sequence[Stage]]:
        if settings.packaged is not None:
            await convert(settings.packaged, settings.models_dir, service.starting)
            service.starting(f"loading {settings.packaged.name}")
        files = _adapter_files(service, settings, config)
        bare = create_engine(await _with_adapters(service, config, files))
        engine = MeasuredEngine(bare)
        await engine.start()
        try:
            async with watch_engine(service, bare):
                support = _support(service, settings)
                judge = SentenceJudge(_requesters(service, JUDGE_SECONDS))
                stored = StoredAdapters(bare, files)
                variants = {settings.generator_variant: "", **{name: name for name in engine.adapters}}
                generate = [
                    _generate(engine, settings, support, stored, judge, variant, adapter)
                    for variant, adapter in variants.items()
                ]
                yield [*generate, *_rewriters(engine, settings)]
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


def _adapter_files(service: Service, settings: GeneratorSettings, config: EngineConfig) -> AdapterFiles:
    root = writable_folder(settings.model_cache, settings.data_dir)
    folder = ModelFolder(ModelStore(service.bus.jetstream), root, max_bytes=settings.model_cache_mb * 2**20)
    return AdapterFiles(folder, config.model if isinstance(config, VLLMConfig) else "")


async def _with_adapters(service: Service, config: EngineConfig, files: AdapterFiles) -> EngineConfig:
    """With folders in the place of adapters of the store. Raises Problem for one that cannot be had."""
    if not isinstance(config, VLLMConfig) or not config.adapters:
        return config
    service.starting("fetching adapters")
    return replace(config, adapters=await adapter_folders(config.adapters, files))


def _requesters(service: Service, seconds: float) -> dict[Lane, Requester]:
    bus = service.bus
    return {
        lane: Requester(bus.client, bus.jetstream, bus.topology, name=GENERATORS, seconds=seconds, tries=1, lane=lane)
        for lane in Lane
    }


def _support(service: Service, settings: GeneratorSettings) -> SupportReview:
    """How answers are reviewed. The embedding model is the embedder's, which is asked once for each answer."""
    seconds = settings.support_seconds
    return SupportReview(
        policy=settings.unsupported,
        attribute=settings.packaged is not None if settings.attribute is None else settings.attribute,
        embed=SentenceEmbedder(_requesters(service, seconds)) if seconds > 0 else None,
        seconds=seconds,
    )


def _generate(
    engine: Engine,
    settings: GeneratorSettings,
    support: SupportReview,
    stored: StoredAdapters,
    judge: SentenceJudge,
    variant: str,
    adapter: str,
) -> Stage:
    return Stage(
        name="generate",
        variant=variant,
        process=Generate(
            engine, adapter, settings.stream_interval, support, declines=settings.decline, stored=stored, judge=judge
        ),
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
