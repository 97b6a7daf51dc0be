"""Settings of the generator."""

from pydantic import Field, SecretStr

from services.generator.engines import EngineConfig, EngineName, ExtractiveConfig, OpenAIConfig
from shared.settings import ServiceSettings

__all__ = ["GeneratorSettings"]


class GeneratorSettings(ServiceSettings):
    engine: EngineName = Field(
        EngineName.EXTRACTIVE, description="extractive (quotes the sources) or openai (any compatible server)."
    )
    generator_variant: str = Field("default", description="Variant of the stage that this process serves.")
    generator_room: int = Field(32, ge=1, description="Answers in work at once.")
    generator_batch_room: int = Field(16, ge=1, description="Of these, answers of the batch lane.")
    extract_sentences: int = Field(3, ge=1, description="extractive: sentences to quote at most.")
    extract_characters: int = Field(800, ge=80, description="extractive: characters to quote at most.")
    openai_base_url: str = Field("http://127.0.0.1:8000/v1", description="openai: the server's base URL.")
    openai_api_key: SecretStr = Field(SecretStr(""), description="openai: the key, where the server wants one.")
    openai_model: str = Field("", description="openai: the model; empty: the first that the server lists.")
    openai_timeout: float = Field(60.0, gt=0, description="openai: seconds of silence from the server to bear.")
    openai_context_tokens: int = Field(6000, ge=256, description="openai: tokens of the prompt, about.")

    @property
    def engine_config(self) -> EngineConfig:
        if self.engine is EngineName.EXTRACTIVE:
            return ExtractiveConfig(
                sentences=self.extract_sentences, characters=self.extract_characters, room=self.generator_room
            )
        return OpenAIConfig(
            base_url=self.openai_base_url,
            api_key=self.openai_api_key,
            model=self.openai_model,
            timeout=self.openai_timeout,
            context_tokens=self.openai_context_tokens,
            room=self.generator_room,
        )
