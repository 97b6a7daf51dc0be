"""Any server that speaks the OpenAI API: vLLM, SGLang, llama.cpp, Ollama, TGI, a hosted one."""

from services.generator.engines.openai.config import OpenAIConfig
from services.generator.engines.openai.engine import OpenAIEngine

__all__ = ["OpenAIConfig", "OpenAIEngine"]
