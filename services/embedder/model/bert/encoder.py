"""A BERT that OpenVINO computes, with its tokenizer by `tokenizers`: ready in half a second, without PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from services.embedder.model import openvino
from services.embedder.model.bert.checkpoint import BertCheckpoint, read_checkpoint
from services.embedder.model.bert.graph import build_graph
from services.embedder.model.bert.weights import MappedWeights
from services.embedder.model.encoder import Features, Kind, Vectors, choose_prompt
from services.embedder.model.hardware import Backend, Device, Dtype

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["BertEncoder"]


class BertEncoder:
    """An `Encoder` of a folder that `read_checkpoint` understands."""

    device: Device = Device.CPU
    backend: Backend = Backend.OPENVINO
    pads_left: bool = False

    def __init__(
        self, checkpoint: BertCheckpoint, weights: MappedWeights, tokenizer: "Tokenizer", *, dtype: Dtype, threads: int
    ) -> None:
        self.dtype = dtype
        self.dimension = checkpoint.width
        self.max_tokens = checkpoint.max_tokens
        self.counter: Tokenizer | None = tokenizer
        self.marks = _marks(checkpoint, tokenizer)
        self._tokenizer = tokenizer
        self._checkpoint = checkpoint
        self._request = openvino.compile_program(build_graph(checkpoint, weights), dtype=dtype, threads=threads)
        self._weights = weights  # whose pages the program reads

    @classmethod
    def load(cls, folder: Path, *, dtype: Dtype, threads: int, max_tokens: int = 0) -> Self:
        """Raises UnsupportedModelError where sentence-transformers has to load the folder."""
        checkpoint = read_checkpoint(folder)
        weights = MappedWeights(folder / "model.safetensors")
        encoder = cls(checkpoint, weights, _tokenizer(folder), dtype=dtype, threads=threads)
        encoder.max_tokens = min(max_tokens or encoder.max_tokens, encoder.max_tokens)
        return encoder

    def prompt(self, kind: Kind) -> str:
        return choose_prompt(self._checkpoint.prompts, self._checkpoint.default_prompt, kind)

    def preprocess(self, texts: Sequence[str], kind: Kind) -> Features:
        prompt = self.prompt(kind)
        found = [each.ids for each in self._tokenizer.encode_batch_fast([prompt + text for text in texts])]
        # A text that is too long is cut before its last mark.
        rows = [ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]] for ids in found]
        width = max(map(len, rows))
        features = {name: np.zeros((len(rows), width), dtype=np.int64) for name in ("input_ids", "attention_mask")}
        for number, ids in enumerate(rows):
            features["input_ids"][number, : len(ids)] = ids
            features["attention_mask"][number, : len(ids)] = 1
        return features

    def sentence_vectors(self, batch: Features, kind: Kind) -> Vectors:  # noqa: ARG002  (the protocol)
        hidden = self._hidden(batch)
        if self._checkpoint.pooling == "cls":
            first: Vectors = hidden[:, 0].copy()
            return first
        mask = batch["attention_mask"].astype(np.float32)
        mean: Vectors = (mask[:, None, :] @ hidden)[:, 0] / mask.sum(axis=1, keepdims=True)
        return mean

    def token_vectors(self, batch: Features, kind: Kind) -> Vectors:  # noqa: ARG002  (the protocol)
        return self._hidden(batch).copy()

    def warmed_up(self) -> None:
        """OpenVINO has read the weights and packed them: of the file it goes on to read the vectors of words."""
        self._weights.release_pages()

    def _hidden(self, batch: Features) -> Vectors:
        """The request's own memory: the next pass writes over it."""
        inputs: list[npt.NDArray[Any]] = [np.ascontiguousarray(batch[name]) for name in ("input_ids", "attention_mask")]
        self._request.infer(inputs, share_inputs=True)
        hidden: Vectors = self._request.get_output_tensor(0).data
        return hidden


def _marks(checkpoint: BertCheckpoint, tokenizer: "Tokenizer") -> list[int]:
    """The special tokens but for that of unknown words, which stands for text."""
    found = (tokenizer.token_to_id(token) for name, token in checkpoint.specials.items() if name != "unk")
    return [token for token in found if token is not None]


def _tokenizer(folder: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
