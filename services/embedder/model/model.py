"""The embedding model: texts in, unit vectors out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.embedder.model.batching import plan_batches
from services.embedder.model.config import BUNDLED_MODEL, ModelConfig
from services.embedder.model.encoder import Features, Kind, Vectors
from services.embedder.model.features import encodable, lengths_of, rows_of
from services.embedder.model.loader import Loaded, load
from services.embedder.model.priority_lock import PriorityLock
from shared.analysis.folding import compose
from shared.contracts.problems import Problem, ProblemType

__all__ = ["BUNDLED_MODEL", "EmbeddingModel", "Encoded", "Kind", "ModelConfig", "Vectors"]

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 16  # more than any text needs: bounds what counting reads of an over-long text


class Encoded(NamedTuple):
    """Vectors and, for each, the tokens of its text after the cut, with the model's own marks and its prompt."""

    vectors: Vectors
    tokens: list[int]


class EmbeddingModel:
    """A loaded model. Every method may be called from any thread; one forward pass runs at a time, also of all models
    that share their `turns`."""

    def __init__(
        self, loaded: Loaded, config: ModelConfig, *, name: str = "", turns: PriorityLock | None = None
    ) -> None:
        encoder = loaded.encoder
        self._encoder = encoder
        self.turns = turns or PriorityLock()
        self._rows = config.batch_rows
        self.batch_tokens = loaded.batch_tokens
        self.name = name or config.name
        self.device = encoder.device
        self.backend = encoder.backend
        self.dtype = encoder.dtype
        self.dimension = encoder.dimension
        self.max_tokens = encoder.max_tokens
        self.truncated = 0  # texts cut at `max_tokens` since the start

    @classmethod
    def load(cls, config: ModelConfig, *, name: str = "", turns: PriorityLock | None = None) -> Self:
        """Load a model; takes seconds, so call it off the event loop. See `loader.load` for where it looks.

        `name` is what it is called, if not as in the configuration.
        """
        return cls(load(config), config, name=name, turns=turns)

    def embed(self, texts: Sequence[str], kind: Kind = Kind.PASSAGE, *, urgent: bool = False) -> Vectors:
        """Vectors of `texts`, (n, dimension), in their order, each of length 1.

        A text longer than `max_tokens` is cut there, counted in `truncated` and logged; an empty text has a
        vector too (zeros where the model's tokenizer makes no token of it). Between two forward passes
        an urgent call goes first, so that a query waits for one pass of a bulk call and not for all.
        Raises Problem(STAGE_FAILED) when the model's numbers overflow (float16).
        """
        return self.encode(texts, kind, urgent=urgent).vectors

    def encode(self, texts: Sequence[str], kind: Kind = Kind.PASSAGE, *, urgent: bool = False) -> Encoded:
        """What `embed` returns, and how many tokens each text was."""
        vectors: Vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        lengths: list[int] = []
        for rows, _, made in self._passes(self._encoder.sentence_vectors, texts, kind, lengths, urgent=urgent):
            vectors[rows] = made
        return Encoded(_normalised(vectors), lengths)

    def encode_tokens(
        self, texts: Sequence[str], kind: Kind = Kind.PASSAGE, *, urgent: bool = False
    ) -> tuple[list[Vectors], list[int]]:
        """A vector of each token of each text, each of length 1; and the tokens of each text, as `encode` counts them.

        The vectors of a text are (tokens, width of the transformer), in the order of its tokens, without the model's
        own marks and the prompt; a text without tokens has none. Cut, order and problems are those of `embed`.
        """
        lengths: list[int] = []
        found: list[Vectors] = [np.zeros((0, self.dimension), dtype=np.float32)] * len(texts)
        skipped = self._prompt_length(kind)
        for rows, batch, made in self._passes(self._encoder.token_vectors, texts, kind, lengths, urgent=urgent):
            for row, each, keep in zip(rows, made, self._text_tokens(batch, skipped), strict=True):
                found[row] = _normalised(each[keep])
        return found, lengths

    def _passes(
        self,
        forward: Callable[[Features, Kind], Vectors],
        texts: Sequence[str],
        kind: Kind,
        lengths: list[int],
        *,
        urgent: bool,
    ) -> Iterator[tuple[list[int], Features, Vectors]]:
        """One forward pass after the other: the numbers of its texts, its inputs, and what the model makes of them.

        Fills `lengths` with the tokens of each text first.
        """
        if not texts:
            return
        clean = [compose(encodable(text)) for text in texts]
        with self.turns.take(urgent=urgent):
            features = self._encoder.preprocess(clean, kind)
        lengths.extend(lengths_of(features, len(clean)))
        self._count_truncated(clean, lengths, self._encoder.prompt(kind))
        for rows in plan_batches(
            lengths, token_budget=self.batch_tokens, max_rows=self._rows, padding_limit=self.batch_tokens // 16
        ):
            longest = lengths[rows[0]]
            if longest:
                batch = rows_of(features, rows, longest, left=self._encoder.pads_left)
                with self.turns.take(urgent=urgent):
                    made = forward(batch, kind)
                yield rows, batch, made

    def _text_tokens(self, batch: Features, skipped: int) -> list[npt.NDArray[np.bool_]]:
        """Which tokens of each row are its text: no padding, no marks of the model, not the first `skipped` others."""
        ids, mask = np.asarray(batch["input_ids"]), np.asarray(batch["attention_mask"])
        kept = mask.astype(bool) & ~np.isin(ids, self._encoder.marks)
        if skipped:
            kept &= np.cumsum(kept, axis=1) > skipped
        return list(kept)

    def _prompt_length(self, kind: Kind) -> int:
        prompt, counter = self._encoder.prompt(kind), self._encoder.counter
        return len(counter.encode(prompt, add_special_tokens=False).ids) if prompt and counter else 0

    def token_count(self, text: str) -> int:
        """Tokens that embedding `text` costs, at most `max_tokens`; takes microseconds for a question."""
        counter = self._encoder.counter
        if counter is None:
            return min(self.max_tokens, len(text) // 4 + 2)
        head = text[: self.max_tokens * CHARACTERS_PER_TOKEN].encode("utf-8", "replace").decode()
        return min(self.max_tokens, len(counter.encode(head).ids))

    def warm_up(self) -> None:
        """Run a short and a full-length text, so that the first query does not pay for first-use costs."""
        self.embed(["warm up", "word " * self.max_tokens], Kind.PASSAGE)
        self._encoder.warmed_up()
        self.truncated = 0

    def _count_truncated(self, texts: list[str], lengths: list[int], prompt: str) -> None:
        counter = self._encoder.counter
        if counter is None:
            return
        at_limit = [text for text, length in zip(texts, lengths, strict=True) if length >= self.max_tokens]
        cut = sum(len(counter.encode(prompt + text).ids) > self.max_tokens for text in at_limit)
        if cut:
            self.truncated += cut
            log.info("cut %d of %d texts at %d tokens", cut, len(texts), self.max_tokens)


def _normalised(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise Problem(ProblemType.STAGE_FAILED, "The embedding model overflowed: run it with dtype float32.")
    unit: Vectors = vectors / np.maximum(norms, np.float32(1e-12))
    return unit
