"""What vLLM is to run, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.prompting.templating import Templates

__all__ = ["VLLMConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VLLMConfig:
    """`model` is a folder or a name on the Hugging Face hub; None and empty leave the choice to vLLM.

    `adapters` are LoRA adapters, name to folder. Up to `added_adapters` more may be in memory, which are added later
    and have at most the rank `adapter_rank`. `arguments` are further members of vLLM's `AsyncEngineArgs` and win
    over all others here. `kv_cache_gib` is the memory of the KV cache; None takes it from `gpu_memory_utilization`, and
    2 GiB on a CPU. `enforce_eager` None means: no compilation on a CPU.
    """

    model: str
    served_name: str = ""
    adapters: Mapping[str, str] = field(default_factory=dict)
    added_adapters: int = 0
    adapter_rank: int = 64
    max_tokens: int = 1024  # of an answer that sets no limit
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    dtype: str = "auto"
    quantization: str = ""
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    kv_cache_gib: float | None = None
    kv_cache_dtype: str = "auto"
    enforce_eager: bool | None = None
    tool_parser: str = ""
    reasoning_parser: str = ""
    chat_template: Path | None = None
    templates: Templates = field(default_factory=Templates)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    instance: str = ""  # in the logs of vLLM's own processes
    log_level: str = "INFO"
