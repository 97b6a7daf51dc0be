"""Settings of the generator."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.generator.engines import EngineConfig, EngineName, ExtractiveConfig, OpenAIConfig, VLLMConfig
from services.generator.engines.vllm.packaged import PACKAGED, PackagedModel, PackagedName
from shared.contracts.envelope import Name
from shared.contracts.generation import Unsupported
from shared.prompting.templating import Templates
from shared.service.settings import ServiceSettings

__all__ = ["GeneratorSettings"]


class OpenAISettings(BaseSettings):
    """The engine openai."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

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
        "max_tokens", description="openai: name of the field that limits the length of an answer."
    )


class VLLMSettings(BaseSettings):
    """The engine vllm. What is not set here is vLLM's own choice for the model and the machine."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    vllm_model: str = Field("", description="vllm: folder of the model, or its name on the Hugging Face hub.")
    vllm_served_name: str = Field("", description="vllm: name under which the model is served; empty: its own.")
    vllm_adapters: dict[Name, str] = Field(
        {}, description='vllm: LoRA adapters, {"name": "folder"}; m-… is one of the store. Each is a variant.'
    )
    vllm_stored_adapters: int = Field(
        0, ge=0, le=1000, description="vllm: adapters of the store in memory at once, for collections; 0: none."
    )
    vllm_lora_rank: int = Field(64, ge=1, le=512, description="vllm: the highest rank of such an adapter.")
    vllm_max_tokens: int = Field(1024, ge=1, description="vllm: default token limit of an answer.")
    vllm_max_model_len: int | None = Field(None, ge=1, description="vllm: tokens of the context window.")
    vllm_max_num_seqs: int | None = Field(
        None, ge=1, description="vllm: answers at the same time, and the stage's room."
    )
    vllm_dtype: str = Field("auto", description="vllm: auto, bfloat16, float16 or float32.")
    vllm_quantization: str = Field("", description="vllm: awq, gptq, fp8 ...; empty: as the model says.")
    vllm_tensor_parallel_size: int = Field(1, ge=1, description="vllm: GPUs that the model is spread over.")
    vllm_gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="vllm: share of a GPU's memory to take.")
    vllm_kv_cache_gb: float | None = Field(
        None, gt=0, description="vllm: GiB of the KV cache; none: what the share leaves, on a CPU 2."
    )
    vllm_kv_cache_dtype: str = Field("auto", description="vllm: auto or fp8.")
    vllm_enforce_eager: bool | None = Field(None, description="vllm: do not compile; none: only on a CPU.")
    vllm_tool_parser: str = Field("", description="vllm: how the model writes tool calls: hermes, llama3_json ...")
    vllm_reasoning_parser: str = Field(
        "", description="vllm: how the model marks its reasoning: deepseek_r1, qwen3 ..."
    )
    vllm_chat_template: Path | None = Field(None, description="vllm: a chat template instead of the model's own.")
    vllm_args: dict[str, JsonValue] = Field({}, description="vllm: further members of AsyncEngineArgs, as JSON.")


class GeneratorSettings(VLLMSettings, OpenAISettings, ServiceSettings):
    engine: EngineName = Field(
        EngineName.EXTRACTIVE,
        description="extractive (quotes the sources), openai (any compatible server) or vllm (in this process).",
    )
    llm: PackagedName | None = Field(
        None,
        description="A language model that comes as a package: smollm2. It runs on the CPU, with the engine vllm.",
    )
    generator_variant: str = Field("default", description="Variant of the stage that this process serves.")
    generator_room: int = Field(32, ge=1, description="Answers at the same time.")
    generator_batch_room: int = Field(16, ge=1, description="Of these, answers of the batch lane.")
    stream_interval: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Seconds within which pieces of an answer go out as one; the first never waits.",
    )
    templates: Path | None = Field(
        None, description="Folder of prompt templates that replace the shipped ones of the same name."
    )
    decline: bool = Field(True, description="Decline questions that the passages found cannot answer.")
    unsupported: Unsupported = Field(
        Unsupported.MARK,
        description="Sentences that no source supports: mark (report them), drop (leave them out) or retry.",
    )
    attribute: bool | None = Field(
        None,
        description="Add the citation to sentences that cite nothing and that a source supports; none: with llm only.",
    )
    support_seconds: float = Field(
        1.0, ge=0, description="Seconds to wait for the vectors of an answer's sentences; 0: compare words alone."
    )
    model_cache: Path | None = Field(
        None, description="Folder for files of models of the store; none: `model-cache` in the data folder."
    )
    model_cache_mb: int = Field(10_240, ge=0, description="MiB of them that stay; those used longest ago are removed.")
    extract_sentences: int = Field(3, ge=1, description="extractive: sentences to quote at most.")
    extract_characters: int = Field(800, ge=80, description="extractive: characters to quote at most.")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.llm is None:
            return self
        if "engine" in self.model_fields_set and self.engine is not EngineName.VLLM:
            raise ValueError(f"SLUICE_LLM={self.llm} runs with the engine vllm, and SLUICE_ENGINE is {self.engine}")
        if self.vllm_model:
            raise ValueError("SLUICE_LLM and SLUICE_VLLM_MODEL each name a model: set one of them")
        return self

    @property
    def packaged(self) -> PackagedModel | None:
        """The model that `llm` names."""
        return PACKAGED[self.llm] if self.llm is not None else None

    @property
    def models_dir(self) -> Path:
        """Where converted models are kept."""
        return self.data_dir.absolute() / "models"

    @cached_property
    def prompt_templates(self) -> Templates:
        """Raises TemplateError."""
        return Templates(self.templates)

    @property
    def engine_config(self) -> EngineConfig:
        if self.engine is EngineName.VLLM or self.llm is not None:
            return self._vllm_config
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

    @property
    def _vllm_config(self) -> VLLMConfig:
        config = self._own_vllm_config
        if (packaged := self.packaged) is None:
            return config
        chosen = self.model_fields_set
        suited: dict[str, Any] = {
            "model": str(packaged.folder(self.models_dir)),
            "served_name": self.vllm_served_name or packaged.name.value,
            "max_model_len": self.vllm_max_model_len or packaged.window,
            "max_num_seqs": self.vllm_max_num_seqs or packaged.room,
            "kv_cache_gib": self.vllm_kv_cache_gb or packaged.kv_cache_gib,
            "max_tokens": self.vllm_max_tokens if "vllm_max_tokens" in chosen else packaged.max_tokens,
            "dtype": self.vllm_dtype if "vllm_dtype" in chosen else packaged.dtype,
        }
        return replace(config, **suited)

    @property
    def _own_vllm_config(self) -> VLLMConfig:
        return VLLMConfig(
            model=self.vllm_model,
            served_name=self.vllm_served_name,
            adapters=self.vllm_adapters,
            added_adapters=self.vllm_stored_adapters,
            adapter_rank=self.vllm_lora_rank,
            max_tokens=self.vllm_max_tokens,
            max_model_len=self.vllm_max_model_len,
            max_num_seqs=self.vllm_max_num_seqs,
            dtype=self.vllm_dtype,
            quantization=self.vllm_quantization,
            tensor_parallel_size=self.vllm_tensor_parallel_size,
            gpu_memory_utilization=self.vllm_gpu_memory_utilization,
            kv_cache_gib=self.vllm_kv_cache_gb,
            kv_cache_dtype=self.vllm_kv_cache_dtype,
            enforce_eager=self.vllm_enforce_eager,
            tool_parser=self.vllm_tool_parser,
            reasoning_parser=self.vllm_reasoning_parser,
            chat_template=self.vllm_chat_template,
            templates=self.prompt_templates,
            arguments=self.vllm_args,
            instance=self.instance,
            log_level=self.log_level,
        )
