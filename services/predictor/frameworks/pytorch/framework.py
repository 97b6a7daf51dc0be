"""Models of PyTorch: programs of `torch.export`, and weights in safetensors with their module in Python."""

import logging
import pickle
from typing import Any

from services.predictor.frameworks.base import (
    FrameworkOptions,
    LoadedModel,
    ModelFiles,
    NotLoadableError,
    package,
)
from services.predictor.frameworks.pytorch.archive import CodeInArchiveError, one_at_a_time, read_archive
from services.predictor.frameworks.pytorch.module import ModuleModel
from services.predictor.frameworks.pytorch.program import ProgramModel
from services.predictor.frameworks.pytorch.tensors import chosen_device, set_threads

__all__ = ["PytorchFramework"]

log = logging.getLogger(__name__)


class PytorchFramework:
    name = "pytorch"
    platform = "pytorch"
    files = ("model.pt2", "*.pt2", "model.safetensors", "*.safetensors")

    def prepare(self) -> None:
        package("torch", "torch", "PyTorch", extra="predictor,pytorch")
        package("safetensors", "safetensors", "PyTorch", extra="predictor,pytorch")

    def load(self, files: ModelFiles, options: FrameworkOptions) -> LoadedModel:
        set_threads(options.threads)
        device = chosen_device(files.parameters)
        if files.file.suffix == ".safetensors":
            return ModuleModel(files, options, device)
        return ProgramModel(_program(files, options, device), files, device)


def _program(files: ModelFiles, options: FrameworkOptions, device: Any) -> Any:
    try:
        return read_archive(files.file, device)
    except CodeInArchiveError as error:
        if not options.allow_pickle:
            raise NotLoadableError(
                f"{files.file.name} is more than tensors and operators, and may run whatever code is in it: {error}. "
                "Set SLUICE_ALLOW_PICKLE=true where you trust all who can write to the repository"
            ) from None
    import torch
    from torch.export.passes import move_to_device_pass

    try:
        with one_at_a_time():
            return move_to_device_pass(torch.export.load(files.file), device)
    except pickle.UnpicklingError as error:
        raise NotLoadableError(f"{files.file.name} cannot be read: {error}") from None
