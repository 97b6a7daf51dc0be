"""The embedding model: texts in, unit vectors out.

Built on sentence-transformers, whose import takes seconds: it is imported when a model is loaded, never before.
"""

import logging
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.embedder.model.batching import plan_batches
from services.embedder.model.features import encodable, lengths_of, rows_of
from services.embedder.model.loader import BUNDLED_MODEL, Loaded, ModelConfig, load
from services.embedder.model.priority_lock import PriorityLock
from shared.analysis.folding import compose
from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

__all__ = ["BUNDLED_MODEL", "EmbeddingModel", "Encoded", "Kind", "ModelConfig", "Vectors"]

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 16  # more than any text needs: bounds what counting reads of an over-long text

Vectors = npt.NDArray[np.float32]


class Encoded(NamedTuple):
    """Vectors and, for each, the tokens of its text after the cut, with the model's own marks and its prompt."""

    vectors: Vectors
    tokens: list[int]


class Kind(StrEnum):
    """What a text is: models trained for search embed a question and a passage differently."""

    QUERY = "query"
    PASSAGE = "passage"


class EmbeddingModel:
    """A loaded model. Every method may be called from any thread; one forward pass runs at a time."""

    def __init__(self, loaded: Loaded, config: ModelConfig) -> None:
        model = loaded.model
        self._model = model
        self._turns = PriorityLock()
        self._rows = config.batch_rows
        self.batch_tokens = loaded.batch_tokens
        self._counter = _counter(model)
        self._marks = _marks(model)
        self.name = config.name
        self.device = loaded.device
        self.backend = loaded.backend
        self.dtype = loaded.dtype
        self.dimension: int = model.truncate_dim or model.get_embedding_dimension()
        self.max_tokens: int = _limit_tokens(model, config.max_tokens)
        self.truncated = 0  # texts cut at `max_tokens` since the start

    @classmethod
    def load(cls, config: ModelConfig) -> Self:
        """Load a model; takes seconds, so call it off the event loop. See `loading.load` for where it looks."""
        return cls(load(config), config)

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
        for rows, made in self._passes(texts, kind, lengths, urgent=urgent):
            vectors[rows] = _numpy(made["sentence_embedding"][:, : self.dimension])
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
        for rows, made in self._passes(texts, kind, lengths, urgent=urgent):
            vectors, kept = _numpy(made["token_embeddings"]), self._text_tokens(made, skipped)
            for row, each, keep in zip(rows, vectors, kept, strict=True):
                found[row] = _normalised(each[keep])
        return found, lengths

    def _passes(
        self, texts: Sequence[str], kind: Kind, lengths: list[int], *, urgent: bool
    ) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """One forward pass after the other: the numbers of its texts, and what the model makes of them.

        Fills `lengths` with the tokens of each text first.
        """
        if not texts:
            return
        prompt = _prompt(self._model, kind)
        clean = [compose(encodable(text)) for text in texts]
        with self._turns.take(urgent=urgent):
            features = self._model.preprocess(clean, prompt=prompt, task=_TASKS[kind])
        lengths.extend(lengths_of(features, len(clean)))
        self._count_truncated(clean, lengths, prompt)
        for rows in plan_batches(
            lengths, token_budget=self.batch_tokens, max_rows=self._rows, padding_limit=self.batch_tokens // 16
        ):
            longest = lengths[rows[0]]
            if longest:
                batch = rows_of(features, rows, longest, left=self._pads_left)
                with self._turns.take(urgent=urgent):
                    made = self._forward(batch, kind)
                yield rows, made

    def _text_tokens(self, made: dict[str, Any], skipped: int) -> list[npt.NDArray[np.bool_]]:
        """Which tokens of each row are its text: no padding, no marks of the model, not the first `skipped` others."""
        ids = made["input_ids"].cpu().numpy()
        kept = made["attention_mask"].cpu().numpy().astype(bool) & ~np.isin(ids, self._marks)
        if skipped:
            kept &= np.cumsum(kept, axis=1) > skipped
        return list(kept)

    def _prompt_length(self, kind: Kind) -> int:
        prompt = _prompt(self._model, kind)
        return len(self._counter.encode(prompt, add_special_tokens=False).ids) if prompt and self._counter else 0

    def token_count(self, text: str) -> int:
        """Tokens that embedding `text` costs, at most `max_tokens`; takes microseconds for a question."""
        if self._counter is None:
            return min(self.max_tokens, len(text) // 4 + 2)
        head = text[: self.max_tokens * CHARACTERS_PER_TOKEN].encode("utf-8", "replace").decode()
        return min(self.max_tokens, len(self._counter.encode(head).ids))

    def warm_up(self) -> None:
        """Run a short and a full-length text, so that the first query does not pay for first-use costs."""
        self.embed(["warm up", "word " * self.max_tokens], Kind.PASSAGE)
        self.truncated = 0

    @property
    def _pads_left(self) -> bool:
        return getattr(self._model.tokenizer, "padding_side", "right") == "left"

    def _forward(self, batch: dict[str, Any], kind: Kind) -> dict[str, Any]:
        import torch

        with torch.inference_mode():
            device = self._model.device
            moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            made: dict[str, Any] = self._model(moved, task=_TASKS[kind])
        return made

    def _count_truncated(self, texts: list[str], lengths: list[int], prompt: str) -> None:
        if self._counter is None:
            return
        at_limit = [text for text, length in zip(texts, lengths, strict=True) if length >= self.max_tokens]
        cut = sum(len(self._counter.encode(prompt + text).ids) > self.max_tokens for text in at_limit)
        if cut:
            self.truncated += cut
            log.info("cut %d of %d texts at %d tokens", cut, len(texts), self.max_tokens)


_TASKS = {Kind.QUERY: "query", Kind.PASSAGE: "document"}
_PROMPT_NAMES = {Kind.QUERY: ("query",), Kind.PASSAGE: ("document", "passage", "corpus")}


def _prompt(model: "SentenceTransformer", kind: Kind) -> str:
    """The prompt that the model defines for `kind`, or its default, or none.

    sentence-transformers fills names that a model leaves out with empty prompts, so the first that says
    something counts: a model with a `passage` prompt would otherwise lose it to an empty `document`.
    """
    named = (model.prompts.get(name) for name in _PROMPT_NAMES[kind])
    default = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    return next((prompt for prompt in named if prompt), None) or default or ""


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


def _normalised(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise Problem(ProblemType.STAGE_FAILED, "The embedding model overflowed: run it with dtype float32.")
    unit: Vectors = vectors / np.maximum(norms, np.float32(1e-12))
    return unit
