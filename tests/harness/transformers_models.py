"""Small models of transformers with random weights, and a tokenizer of a few words, made in milliseconds."""

from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

__all__ = ["POSITIONS", "save_model"]

SPECIAL: Final = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
WORDS: Final = (
    "good",
    "bad",
    "day",
    "night",
    "is",
    "a",
    "the",
    "paris",
    "london",
    "example",
    "this",
    "sport",
    "news",
    ".",
)
POSITIONS: Final = 16
"""Tokens that a model reads of a text."""


def save_model(folder: Path, kind: str, labels: tuple[str, ...] = ("no", "yes"), **config: Any) -> Any:
    """A model of this class of transformers, and its tokenizer, with weights that are always the same."""
    transformers.logging.disable_progress_bar()
    torch.manual_seed(7)
    tokenizer = _tokenizer()
    made = getattr(transformers, kind)(_config(kind, len(tokenizer), labels, config)).eval()
    # Random weights of the usual size let no text differ from another.
    with torch.no_grad():
        for weights in made.parameters():
            weights.normal_(0, 0.5)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return made


def _config(kind: str, words: int, labels: tuple[str, ...], more: dict[str, Any]) -> Any:
    if kind.startswith("T5"):
        sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        ends = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 3}
        return transformers.T5Config(vocab_size=words, **sizes, **ends, **more)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.BertConfig(
        vocab_size=words,
        **sizes,
        max_position_embeddings=POSITIONS,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **more,
    )


def _tokenizer() -> Any:
    ids = {word: index for index, word in enumerate((*SPECIAL.values(), *WORDS))}
    words = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL["unk"]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(SPECIAL[name], ids[SPECIAL[name]]) for name in ("cls", "sep")],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, **{f"{name}_token": token for name, token in SPECIAL.items()}
    )
