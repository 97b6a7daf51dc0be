"""What the extra `torch` of Sluice's package is for, said to those who need it and do not have it."""

from services.embedder.model.hardware import torch_installed

__all__ = ["TorchMissingError", "require_torch"]


class TorchMissingError(ImportError):
    """A setting needs PyTorch and sentence-transformers, which are not installed."""


def require_torch(wanted: str) -> None:
    """Raises TorchMissingError, which says what is wanted and which command installs it."""
    if not torch_installed():
        raise TorchMissingError(
            f"{wanted} needs PyTorch and sentence-transformers. Run `make torch` in a clone, `pip install "
            "'sluice[torch]'` elsewhere; for an image: docs/compose.md."
        )
