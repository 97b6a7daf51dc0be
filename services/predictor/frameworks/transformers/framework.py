"""Models of Hugging Face's transformers, from a folder that `save_pretrained` has written.

Nothing is downloaded, no code of the model's own is run, and weights are safetensors.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import JsonValue, ValidationError

from services.predictor.frameworks.base import (
    Array,
    Arrays,
    FrameworkOptions,
    InvalidInputError,
    ModelFiles,
    NotLoadableError,
    package,
)
from services.predictor.frameworks.pytorch.archive import one_at_a_time
from services.predictor.frameworks.pytorch.tensors import chosen_device, set_threads
from services.predictor.frameworks.transformers.folder import check_configs, read_config
from services.predictor.frameworks.transformers.tasks import LABELS, TASKS, TEXT, Task, TaskOptions, task_of

__all__ = ["TransformersFramework", "TransformersModel"]

EXTRA: Final = "predictor,pytorch"
DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

SHIFTED: Final = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl", "xmod"})
"""Types of models whose positions begin after that of the padding."""

POOLED: Final = "feature-extraction"
POOLER: Final = "pooler"
"""A part that this task does not use, and that models for it often lack."""

LONGEST: Final = 4096
"""Tokens that are read of a text where nothing says how many the model takes."""


class TransformersFramework:
    name = "transformers"
    platform = "huggingface_transformers"
    files = ("config.json",)

    def prepare(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        package("torch", "torch", "transformers", extra=EXTRA)
        library = package("transformers", "transformers", "transformers", extra=EXTRA)
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()

    def load(self, files: ModelFiles, options: FrameworkOptions) -> "TransformersModel":
        return self.load_parts(files, options, tokenizer=files.folder)

    def load_parts(self, files: ModelFiles, options: FrameworkOptions, *, tokenizer: Path) -> "TransformersModel":
        """With the tokenizer of another folder. Raises NotLoadableError, or what the library raises."""
        import torch
        import transformers

        chosen = _options(files.parameters)
        config = read_config(files.folder)
        if tokenizer != files.folder:
            check_configs(tokenizer)
        loader, make = TASKS[task_of(chosen.task, config)]
        set_threads(options.threads)
        device = chosen_device({"device": chosen.device})
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with one_at_a_time():
            words = transformers.AutoTokenizer.from_pretrained(tokenizer, **local)
            model, loaded = getattr(transformers, loader).from_pretrained(
                files.folder, **local, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
        _check_whole(loaded["missing_keys"], task_of(chosen.task, config))
        model = model.to(device=device, dtype=getattr(torch, DTYPES[chosen.precision])).eval()
        words.model_max_length = _longest(model.config, words, chosen)
        return TransformersModel(make(model, words, chosen))


class TransformersModel:
    """Requests are joined, except for those of zero-shot classification, which have labels of their own."""

    def __init__(self, task: Task) -> None:
        self._task: Task | None = task
        self.signature = task.signature

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        assert self._task is not None
        texts, labels = _decoded(TEXT, inputs[TEXT]), _decoded(LABELS, inputs[LABELS]) if LABELS in inputs else []
        if not texts:
            raise InvalidInputError("it takes one text at least")
        made = self._task.run(texts, labels)
        return {name: made[name] for name in outputs}

    def close(self) -> None:
        assert self._task is not None
        self._task.close()
        self._task = None


def _check_whole(missing: Iterable[str], task: str) -> None:
    """Raises NotLoadableError where the files lack weights: the library makes up random ones, and so would the answers
    be."""
    unused = (POOLER,) if task == POOLED else ()
    if lacking := sorted(name for name in missing if not any(part in unused for part in name.split("."))):
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise NotLoadableError(
            f"its files have no weights {', '.join(lacking[:3])}{more}, which the task {task} needs. Save the whole "
            "model, or choose the task that it was trained for"
        )


def _options(parameters: Mapping[str, JsonValue]) -> TaskOptions:
    """Of a configuration. Raises NotLoadableError."""
    try:
        return TaskOptions.model_validate(dict(parameters), strict=False)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        raise NotLoadableError(f"the parameters of its configuration: {wrong}") from None


def _longest(config: Any, tokenizer: Any, chosen: TaskOptions) -> int:
    """Tokens that a text may have: longer texts are cut."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in SHIFTED:
        positions -= (config.pad_token_id or 0) + 1
    known = [each for each in (positions, tokenizer.model_max_length, chosen.max_length, LONGEST) if each and each > 0]
    return int(min(known[:-1] if positions else known))


def _decoded(name: str, array: Array) -> list[str]:
    try:
        return [element.decode() for element in np.reshape(array, -1).tolist()]
    except UnicodeDecodeError:
        raise InvalidInputError(f"the input '{name}' is not UTF-8") from None
