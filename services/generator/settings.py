"""Settings of the generator."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.generator.engines import EngineConfig, EngineName, ExtractiveConfig, OpenAIConfig
from services.generator.templating import Templates
from shared.settings import ServiceSettings

__all__ = ["GeneratorSettings"]


class OpenAISettings(BaseSettings):
    """The engine openai."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore")

    openai_base_url: str = Field("http://127.0.0.1:8000/v1", description="openai: the server's base URL.")
    openai_api_key: SecretStr = Field(SecretStr(""), description="openai: the key, where the server wants one.")
    openai_model: str = Field("", description="openai: the model; empty: the first that the server lists.")
    openai_first_token: float = Field(60.0, gt=0, description="openai: seconds to wait for the first token.")
    openai_silence: float = Field(60.0, gt=0, description="openai: seconds to wait for each further token.")
    openai_retries: int = Field(2, ge=0, description="openai: further tries before the first token.")
    openai_window: int = Field(
        0, ge=0, description="openai: tokens of the context window; 0: what the server says, or 8192."
    )
    openai_tokenizer: Path | None = Field(
        None, description="openai: the model's tokenizer.json, or its folder; none: tokens are estimated."
    )
    openai_resumes: bool = Field(
        False, description="openai: the server takes continue_final_message (vLLM, SGLang): answers survive a crash."
    )
    openai_limit_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="openai: name that the server has for the limit of an answer."
    )


class GeneratorSettings(OpenAISettings, ServiceSettings):
    engine: EngineName = Field(
        EngineName.EXTRACTIVE, description="extractive (quotes the sources) or openai (any compatible server)."
    )
    generator_variant: str = Field("default", description="Variant of the stage that this process serves.")
    generator_room: int = Field(32, ge=1, description="Answers in work at once.")
    generator_batch_room: int = Field(16, ge=1, description="Of these, answers of the batch lane.")
    templates: Path | None = Field(
        None, description="Folder of prompt templates that replace the shipped ones of the same name."
    )
    extract_sentences: int = Field(3, ge=1, description="extractive: sentences to quote at most.")
    extract_characters: int = Field(800, ge=80, description="extractive: characters to quote at most.")

    @cached_property
    def prompt_templates(self) -> Templates:
        """Raises TemplateError."""
        return Templates(self.templates)

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
            first_token=self.openai_first_token,
            silence=self.openai_silence,
            max_retries=self.openai_retries,
            room=self.generator_room,
            window=self.openai_window,
            tokenizer=self.openai_tokenizer,
            resumes=self.openai_resumes,
            limit_field=self.openai_limit_field,
            templates=self.prompt_templates,
        )
