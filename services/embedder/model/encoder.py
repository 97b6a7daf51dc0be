"""What computes vectors of padded rows of tokens: the part of an embedding model that depends on a library."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from services.embedder.model.hardware import Backend, Device, Dtype

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Encoder", "Features", "Kind", "Vectors", "choose_prompt"]

Vectors = npt.NDArray[np.float32]

Features = dict[str, Any]
"""The inputs of a forward pass, arrays of rows x tokens; `input_ids` and `attention_mask` are among them."""


class Kind(StrEnum):
    """What a text is: models trained for search embed a question and a passage differently."""

    QUERY = "query"
    PASSAGE = "passage"


class Encoder(Protocol):
    """A loaded model. `EmbeddingModel` makes one call at a time of those that take texts or features."""

    device: Device
    backend: Backend
    dtype: Dtype
    dimension: int
    max_tokens: int
    pads_left: bool
    counter: "Tokenizer | None"
    """A tokenizer that does not cut, for any thread; none where the model's own cannot be had."""
    marks: list[int]
    """The tokens that the tokenizer adds to every text."""

    def prompt(self, kind: Kind) -> str:
        """What the model wants before a text of this kind."""

    def preprocess(self, texts: Sequence[str], kind: Kind) -> Features:
        """The rows of these texts with their prompt, cut at `max_tokens` and padded to the longest."""

    def sentence_vectors(self, batch: Features, kind: Kind) -> Vectors:
        """A vector of each row, (rows, dimension), of any length."""

    def warmed_up(self) -> None:
        """To be called after the first passes: what only they needed is given back."""

    def token_vectors(self, batch: Features, kind: Kind) -> Vectors:
        """A vector of each token, (rows, tokens, width of the transformer), of any length."""


_PROMPT_NAMES = {Kind.QUERY: ("query",), Kind.PASSAGE: ("document", "passage", "corpus")}


def choose_prompt(prompts: Mapping[str, str], default: str | None, kind: Kind) -> str:
    """The prompt that the model defines for `kind`, or its default, or none.

    sentence-transformers fills names that a model leaves out with empty prompts, so the first that says
    something counts: a model with a `passage` prompt would otherwise lose it to an empty `document`.
    """
    named = (prompts.get(name) for name in _PROMPT_NAMES[kind])
    return next((prompt for prompt in named if prompt), None) or (prompts.get(default) if default else None) or ""
