"""The engines by name: a configuration says which one it is for."""

from services.generator.engines.base import Engine, EngineName
from services.generator.engines.extractive.engine import ExtractiveConfig, ExtractiveEngine
from services.generator.engines.openai import OpenAIConfig, OpenAIEngine
from services.generator.engines.vllm import VLLMConfig, VLLMEngine

__all__ = ["Engine", "EngineConfig", "EngineName", "ExtractiveConfig", "OpenAIConfig", "VLLMConfig", "create_engine"]

EngineConfig = ExtractiveConfig | OpenAIConfig | VLLMConfig


def create_engine(config: EngineConfig) -> Engine:
    """The engine for `config`, not started; nothing heavy is imported before `start`."""
    match config:
        case ExtractiveConfig():
            return ExtractiveEngine(config)
        case OpenAIConfig():
            return OpenAIEngine(config)
        case VLLMConfig():
            return VLLMEngine(config)
