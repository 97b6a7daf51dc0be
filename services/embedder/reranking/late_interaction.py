"""Late interaction with the embedding model that is loaded anyway: MaxSim over its token vectors.

Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT",
SIGIR 2020: each token of the question looks for its most similar token of the passage. The score is the mean of these
cosines, brought to 0 to 1 by a logistic curve.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from services.embedder.model.model import EmbeddingModel, Kind
from services.embedder.reranking.base import RerankerName, Scored
from services.embedder.reranking.metrics import CACHED_PASSAGES
from services.embedder.reranking.token_cache import TokenCache, TokenVectors, pack_tokens

__all__ = ["RETRIEVAL_WEIGHT", "LateInteraction", "LateInteractionConfig", "max_similarity"]

MIDDLE: Final = 0.5
STEEPNESS: Final = 12.0
"""The logistic curve: the mean cosine that scores 0.5, and how fast scores change there."""

RETRIEVAL_WEIGHT: Final = 0.8
"""The share of the retrieval score in the score of a passage, unless a setting says otherwise. A model that was trained
for one vector a text ranks worse by its token vectors alone: see docs/reranking.md."""

BATCH: Final = 128

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LateInteractionConfig:
    """`cache_bytes` bounds the memory for token vectors: a passage of 250 tokens takes about 100 kB."""

    cache_bytes: int = 256 * 2**20


def max_similarity(question: Rows, passage: TokenVectors) -> float:
    """The mean over the question's tokens of the largest cosine with a token of the passage; 0 without tokens."""
    if not len(question) or not len(passage.codes):
        return 0.0
    cosines = (passage.codes.astype(np.float32) @ question.T) * passage.scales[:, None]
    return float(cosines.max(axis=0).mean())


class LateInteraction:
    """Needs no other weights than the embedding model's. Token vectors of recent passages stay in a cache."""

    name = RerankerName.LATE_INTERACTION.value
    batch = BATCH

    def __init__(self, model: EmbeddingModel, config: LateInteractionConfig) -> None:
        self._model = model
        self._cache = TokenCache(config.cache_bytes)
        self.model = f"late-interaction/{Path(model.name).name}"

    async def start(self) -> None:
        """The embedding model is loaded already."""

    async def close(self) -> None:
        """The embedding model belongs to others."""

    def costs(self, question: str, passages: Sequence[str]) -> list[int]:  # noqa: ARG002  (the protocol)
        return [0 if text in self._cache else self._model.token_count(text) for text in passages]

    async def score(self, question: str, passages: Sequence[str], *, urgent: bool) -> Scored:
        return await asyncio.to_thread(self._score, question, passages, urgent)

    def _score(self, question: str, passages: Sequence[str], urgent: bool) -> Scored:
        (asked,), lengths = self._model.encode_tokens([question], Kind.QUERY, urgent=urgent)
        known = {text: self._cache.get(text) for text in dict.fromkeys(passages)}
        missing = [text for text, vectors in known.items() if vectors is None]
        CACHED_PASSAGES.labels("hit").inc(len(known) - len(missing))
        CACHED_PASSAGES.labels("miss").inc(len(missing))
        made, _ = self._model.encode_tokens(missing, Kind.PASSAGE, urgent=urgent)
        for text, vectors in zip(missing, made, strict=True):
            packed = pack_tokens(vectors)
            known[text] = packed
            self._cache.put(text, packed)
        found = [kept for text in passages if (kept := known[text]) is not None]
        scores = [_calibrated(max_similarity(asked, kept)) for kept in found]
        # What the cache saves is still counted, so that the same request has the same usage.
        return Scored(scores, sum(lengths) + sum(len(kept.codes) for kept in found))


def _calibrated(cosine: float) -> float:
    return 1.0 / (1.0 + math.exp(-STEEPNESS * (cosine - MIDDLE)))
