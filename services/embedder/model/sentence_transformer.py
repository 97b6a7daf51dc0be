"""Any model of sentence-transformers, computed by PyTorch, or its transformer by OpenVINO.

The library's import takes seconds: it is imported when a model is loaded, never before.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from services.embedder.model.config import ModelConfig
from services.embedder.model.encoder import Features, Kind, Vectors, choose_prompt
from services.embedder.model.hardware import Backend, Device, Dtype

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

__all__ = ["SentenceTransformerEncoder"]

_TASKS = {Kind.QUERY: "query", Kind.PASSAGE: "document"}


class SentenceTransformerEncoder:
    """An `Encoder`; `model` is the library's object, whose transformer may be replaced."""

    def __init__(self, model: "SentenceTransformer", *, device: Device, dtype: Dtype, max_tokens: int) -> None:
        self.model = model
        self.device = device
        self.backend = Backend.TORCH
        self.dtype = dtype
        self.dimension = int(model.truncate_dim or model.get_embedding_dimension())
        self.max_tokens = _limit_tokens(model, max_tokens)
        self.pads_left = getattr(model.tokenizer, "padding_side", "right") == "left"
        self.counter = _counter(model)
        self.marks = _marks(model)

    @classmethod
    def load(cls, path: str, config: ModelConfig, *, device: Device, dtype: Dtype) -> Self:
        """From a folder, or a name on the Hub. Raises OSError where it cannot be found."""
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
        return cls(model, device=device, dtype=dtype, max_tokens=config.max_tokens)

    @property
    def parameters(self) -> int:
        return sum(weights.numel() for weights in self.model.parameters())

    def to(self, dtype: Dtype) -> None:
        """Bring the weights to another number format."""
        import torch

        self.model.to(getattr(torch, dtype.value))
        self.dtype = dtype

    def prompt(self, kind: Kind) -> str:
        return choose_prompt(self.model.prompts, self.model.default_prompt_name, kind)

    def preprocess(self, texts: Sequence[str], kind: Kind) -> Features:
        features: Features = self.model.preprocess(list(texts), prompt=self.prompt(kind), task=_TASKS[kind])
        return features

    def sentence_vectors(self, batch: Features, kind: Kind) -> Vectors:
        return _numpy(self._forward(batch, kind)["sentence_embedding"][:, : self.dimension])

    def token_vectors(self, batch: Features, kind: Kind) -> Vectors:
        return _numpy(self._forward(batch, kind)["token_embeddings"])

    def warmed_up(self) -> None:
        """All that is in memory stays in use."""

    def _forward(self, batch: Features, kind: Kind) -> dict[str, Any]:
        import torch

        with torch.inference_mode():
            device = self.model.device
            moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            made: dict[str, Any] = self.model(moved, task=_TASKS[kind])
        return made


def _counter(model: "SentenceTransformer") -> "Tokenizer | None":
    """A tokenizer of our own: the model's is set to cut and pad, state that two threads must not share."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    from tokenizers import Tokenizer

    counter = Tokenizer.from_str(backend.to_str())
    counter.no_truncation()
    counter.no_padding()
    return counter


def _marks(model: "SentenceTransformer") -> list[int]:
    """The tokens that the tokenizer adds to every text; its token for what it does not know stands for text."""
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    return [token for token in getattr(model.tokenizer, "all_special_ids", ()) if token != unknown]


def _numpy(values: "torch.Tensor") -> Vectors:
    return np.asarray(values.float().cpu().numpy(), dtype=np.float32)


def _limit_tokens(model: "SentenceTransformer", wanted: int) -> int:
    own = int(model.max_seq_length or 512)
    model.max_seq_length = min(wanted, own) if wanted else own
    return int(model.max_seq_length)
