"""The start of vLLM: its environment, its arguments, and what becomes of its errors."""

import json
import logging
from pathlib import Path
from typing import Any, Final

from vllm import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM

from services.generator.engines.vllm.config import VLLMConfig
from services.generator.engines.vllm.session import Running
from shared.contracts.problems import Problem, ProblemType

__all__ = ["launch"]

log = logging.getLogger(__name__)

GIB: Final = 2**30
CPU_KV_CACHE_GIB: Final = 2.0
LORA_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
MOST_ADAPTERS_AT_ONCE: Final = 8
LONGEST_REASON: Final = 1000


def launch(config: VLLMConfig) -> Running:
    """Start the engine and its processes; takes seconds to minutes. Raises Problem ENGINE_FAILED.

    To be called in a thread, with the environment of `environ` set before vLLM is imported for the first time.
    """
    llm: AsyncLLM | None = None
    try:
        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments(config)))
        return Running(llm, config)
    except Problem:
        _stop(llm)
        raise
    except Exception as error:
        _stop(llm)
        log.exception("vLLM did not start")
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise Problem(ProblemType.ENGINE_FAILED, f"vLLM did not start: {reason}") from None


def arguments(config: VLLMConfig) -> dict[str, Any]:
    """The members of AsyncEngineArgs that differ from vLLM's own defaults."""
    cpu = current_platform.is_cpu()
    kv_cache = config.kv_cache_gib if config.kv_cache_gib is not None else CPU_KV_CACHE_GIB if cpu else None
    made: dict[str, Any] = {
        "model": config.model,
        "served_model_name": config.served_name or None,
        "dtype": config.dtype,
        "quantization": config.quantization or None,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "tensor_parallel_size": config.tensor_parallel_size,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "kv_cache_memory_bytes": None if kv_cache is None else int(kv_cache * GIB),
        "kv_cache_dtype": config.kv_cache_dtype,
        "enforce_eager": cpu if config.enforce_eager is None else config.enforce_eager,
        "enable_prefix_caching": True,
        "reasoning_parser": config.reasoning_parser,
        "trust_remote_code": False,
        "use_tqdm_on_load": False,
    }
    if adapters := len(config.adapters) + config.added_adapters:
        ranks = [_rank(name, Path(path)) for name, path in config.adapters.items()]
        if config.added_adapters:
            ranks.append(_able(config.adapter_rank))
        made |= {
            "enable_lora": True,
            "max_loras": min(adapters, MOST_ADAPTERS_AT_ONCE),
            "max_cpu_loras": adapters,
            "max_lora_rank": max(ranks),
        }
    return made | dict(config.arguments)


def _rank(name: str, folder: Path) -> int:
    """The least rank that vLLM can be started with for this adapter."""
    try:
        rank = int(json.loads((folder / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = f"The adapter {name!r} cannot be read from {folder}: {error}"
        raise Problem(ProblemType.ENGINE_FAILED, detail) from None
    return _able(rank)


def _able(rank: int) -> int:
    return next((able for able in LORA_RANKS if able >= rank), rank)


def _stop(llm: AsyncLLM | None) -> None:
    if llm is not None:
        llm.shutdown()
