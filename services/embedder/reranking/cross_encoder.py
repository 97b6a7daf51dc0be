"""A cross-encoder: one model reads question and passage together, which is the most exact and the most costly.

Any model of sentence-transformers' `CrossEncoder` with one score a pair: the families of ms-marco, BGE, Ettin, Qwen3.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from services.embedder.model import openvino
from services.embedder.model.batching import plan_batches
from services.embedder.model.features import encodable, lengths_of, rows_of
from services.embedder.model.hardware import Backend, Device, Dtype, choose_device, choose_dtype, usable_cpus, x86
from services.embedder.model.priority_lock import PriorityLock
from services.embedder.model.torch_extra import require_torch
from services.embedder.reranking.base import RerankerName, Scored
from shared.contracts.problems import Problem, ProblemType
from shared.service.imports import uncollected

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = ["CrossEncoderConfig", "CrossEncoderReranker"]

log = logging.getLogger(__name__)

BATCH: Final = 64
CHARACTERS_PER_TOKEN: Final = 4
"""For estimates of what a pair costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoderConfig:
    """`model` is a folder, or a name on the Hugging Face Hub. Zero means: choose for this machine."""

    model: str
    revision: str | None = None
    device: Device = Device.AUTO
    backend: Backend = Backend.AUTO
    dtype: Dtype = Dtype.AUTO
    threads: int = 0
    batch_tokens: int = 0
    batch_rows: int = 256
    max_tokens: int = 0  # of a pair, which is cut there; 0: the model's own limit


class CrossEncoderReranker:
    """The model's logit as a score by the logistic function. One forward pass runs at a time, urgent ones first."""

    name = RerankerName.CROSS_ENCODER.value
    batch = BATCH

    def __init__(self, config: CrossEncoderConfig) -> None:
        self._config = config
        self._turns = PriorityLock()
        self._loaded: CrossEncoder | None = None
        self._batch_tokens = 0
        self.backend = Backend.TORCH
        self.model = Path(config.model).name if Path(config.model).is_dir() else config.model

    async def start(self) -> None:
        """Load the model. Raises OSError where it cannot be found, ValueError where it does not give one score a pair,
        NotConvertibleError where OpenVINO was asked for by name and cannot compute it, TorchMissingError."""
        with uncollected():
            await asyncio.to_thread(self._load)
        await self.score("warm up", ["a passage", "word " * 1000], urgent=True)

    async def close(self) -> None:
        self._loaded = None

    def costs(self, question: str, passages: Sequence[str]) -> list[int]:
        limit = self._limit
        asked = len(question) // CHARACTERS_PER_TOKEN + 3
        return [min(limit, asked + len(text) // CHARACTERS_PER_TOKEN) for text in passages]

    async def score(self, question: str, passages: Sequence[str], *, urgent: bool) -> Scored:
        return await asyncio.to_thread(self._score, question, passages, urgent)

    @property
    def _limit(self) -> int:
        return int(getattr(self._loaded, "max_seq_length", 0) or 512)

    def _score(self, question: str, passages: Sequence[str], urgent: bool) -> Scored:
        model = self._loaded
        if model is None:
            raise RuntimeError("score was called before start")
        if not passages:
            return Scored([], 0)
        pairs = [(encodable(question), encodable(text)) for text in passages]
        with self._turns.take(urgent=urgent):
            features = model.preprocess(pairs, prompt=_prompt(model))
        lengths = lengths_of(features, len(pairs))
        logits = np.zeros(len(pairs), dtype=np.float64)
        left = getattr(model.tokenizer, "padding_side", "right") == "left"
        for rows in plan_batches(
            lengths,
            token_budget=self._batch_tokens,
            max_rows=self._config.batch_rows,
            padding_limit=self._batch_tokens // 16,
        ):
            batch = rows_of(features, rows, lengths[rows[0]], left=left)
            with self._turns.take(urgent=urgent):
                logits[rows] = _forward(model, batch)
        if not np.isfinite(logits).all():
            raise Problem(ProblemType.STAGE_FAILED, "The cross-encoder overflowed: run it with dtype float32.")
        return Scored([float(score) for score in _logistic(logits)], sum(lengths))

    def _load(self) -> None:
        require_torch("A cross-encoder")
        import torch
        from sentence_transformers import CrossEncoder
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]
        config = self._config
        device = choose_device(Device.CPU if config.backend is Backend.OPENVINO else config.device)
        dtype = choose_dtype(config.dtype, device)
        threads = config.threads or usable_cpus()
        if device is Device.CPU:
            torch.set_num_threads(threads)
        converts = self._may_convert(device, dtype)
        try:
            model = CrossEncoder(
                config.model,
                device=device.value,
                revision=config.revision,
                local_files_only=Path(config.model).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1",
                model_kwargs={"dtype": torch.float32 if converts else getattr(torch, dtype.value)},
            )
        except OSError as error:
            raise OSError(f"cannot load the cross-encoder {config.model!r}: {error}") from error
        if model.num_labels != 1:
            raise ValueError(
                f"the cross-encoder {config.model!r} gives {model.num_labels} values a pair, not one score"
            )
        model.eval()
        if config.max_tokens:
            model.max_seq_length = min(config.max_tokens, int(model.max_seq_length or config.max_tokens))
        if converts:
            self._convert(model, dtype, threads)
        self._batch_tokens = config.batch_tokens or (512 * threads if device is Device.CPU else 32_768)
        self._loaded = model
        log.info("loaded the cross-encoder", extra={"device": device, "backend": self.backend, "dtype": dtype})

    def _may_convert(self, device: Device, dtype: Dtype) -> bool:
        if self._config.backend is not Backend.AUTO:
            return self._config.backend is Backend.OPENVINO
        return device is Device.CPU and x86() and dtype in openvino.PRECISIONS and openvino.installed()

    def _convert(self, model: "CrossEncoder", dtype: Dtype, threads: int) -> None:
        import torch

        try:
            openvino.accelerate_cross_encoder(model, dtype=dtype, threads=threads)
        except openvino.NotConvertibleError as error:
            if self._config.backend is Backend.OPENVINO:
                raise
            log.warning("PyTorch computes the cross-encoder, as OpenVINO does not: %s", error)
            model.to(getattr(torch, dtype.value))
        else:
            self.backend = Backend.OPENVINO


def _forward(model: "CrossEncoder", batch: dict[str, Any]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    import torch

    with torch.inference_mode():
        moved = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        logits: torch.Tensor = model(moved)["scores"]
        return np.asarray(logits.double().cpu().numpy().reshape(-1))


def _prompt(model: "CrossEncoder") -> str | None:
    """The instruction that the model was trained with, where it names one as its default."""
    name = model.default_prompt_name
    return model.prompts.get(name) if name else None


def _logistic(logits: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))  # does not overflow
