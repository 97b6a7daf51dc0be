"""LoRA: the few weights of an adapter in a language model that stays as it is, and the files that hold them."""

import json
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from shared.contracts.problems import Problem, ProblemType
from shared.stores.base_models import ADAPTER_CONFIG, ADAPTER_WEIGHTS

__all__ = ["AdapterWeights", "find_model", "load_model", "with_adapter"]

SCALE: Final = 2
"""`lora_alpha` in ranks."""

DROPOUT: Final = 0.05

TAKEN_OVER: Final = ("r", "lora_alpha", "lora_dropout", "target_modules")
"""Members of an adapter's configuration with which training goes on from it."""

PLAIN: Final = {"peft_type": "LORA", "bias": "none"}
UNKNOWN: Final = ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform")
"""What makes more than plain LoRA of it."""

LARGE: Final = 500_000_000
"""Parameters from which on activations are computed again rather than held."""


def find_model(name: str) -> Path:
    """The folder of a language model: the one that is named, or the one where the Hugging Face library keeps the model
    of this name. Raises Problem INVALID_REQUEST where it is not there."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (ValueError, OSError) as error:
        raise _invalid(f"There is no language model '{name[:200]}' on this machine: {error}") from None


def load_model(folder: Path) -> Any:
    """A language model from safetensors. No code of its own runs. Raises Problem INVALID_REQUEST."""
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda and torch.cuda.is_bf16_supported() else torch.float32
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _invalid(f"The language model cannot be loaded: {error}") from error
    if model.num_parameters() > LARGE:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def with_adapter(model: Any, rank: int, adapter: Path | None) -> PeftModel:
    """The model with a new adapter in all of its linear layers, or with the one in a folder. Only that is trained.

    Raises Problem INVALID_REQUEST for an adapter that is not plain LoRA, or does not fit the model.
    """
    if adapter is None:
        shape: dict[str, Any] = {
            "r": rank,
            "lora_alpha": SCALE * rank,
            "lora_dropout": DROPOUT,
            "target_modules": "all-linear",
        }
    else:
        shape = _shape(adapter / ADAPTER_CONFIG)
    try:
        made = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, bias="none", **shape))
    except (ValueError, TypeError) as error:
        raise _invalid(f"An adapter does not fit the model: {error}") from error
    assert isinstance(made, PeftModel)
    if adapter is not None:
        AdapterWeights(made).load(adapter / ADAPTER_WEIGHTS)
    return made


class AdapterWeights:
    """The weights of a model's adapter."""

    def __init__(self, model: PeftModel) -> None:
        self._model = model

    def save(self, path: Path) -> None:
        tensors = get_peft_model_state_dict(self._model, save_embedding_layers=False)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})

    def load(self, path: Path) -> None:
        """Raises Problem INVALID_REQUEST where the file has other weights than the adapter."""
        wanted = get_peft_model_state_dict(self._model, save_embedding_layers=False)
        found = load_file(path)
        if {name: tensor.shape for name, tensor in found.items()} != {n: tensor.shape for n, tensor in wanted.items()}:
            raise _invalid("The weights of the adapter are not those of its configuration and this model.")
        set_peft_model_state_dict(self._model, found)

    def save_folder(self, folder: Path, base: str) -> None:
        """Weights and configuration, as PEFT reads them: the same adapter makes the same files."""
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / ADAPTER_WEIGHTS)
        config: dict[str, Any] = self._model.peft_config["default"].to_dict()
        config |= {"base_model_name_or_path": base, "inference_mode": True}
        config["target_modules"] = sorted(config["target_modules"])
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, sort_keys=True, indent=1) + "\n")


def _shape(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
        plain = all(config.get(name, value) == value for name, value in PLAIN.items())
        shape = {name: config[name] for name in TAKEN_OVER}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _invalid(f"'{path.name}' of the adapter cannot be read: {error!r}") from None
    if not plain or any(config.get(name) for name in UNKNOWN):
        raise _invalid("The adapter to go on from is not plain LoRA.")
    return shape


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"Training cannot begin. {detail}")
