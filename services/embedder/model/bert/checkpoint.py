"""A folder of sentence-transformers that holds a BERT: what its files say, where all of it is understood here.

A vector must be the one that sentence-transformers computes. So a folder with anything that would need more than
transformer, pooling and normalisation, or another tokenizer, is refused with the reason.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ValidationError

__all__ = ["BertCheckpoint", "UnsupportedModelError", "read_checkpoint"]

Pooling = Literal["mean", "cls"]

TRANSFORMER_KEYS: Final = {
    *("max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"),
    *("unpad_inputs", "processing_kwargs", "query_length", "document_length", "query_expansion"),
}
MODULES: Final = ("Transformer", "Pooling", "Normalize")
SPECIAL: Final = {name: f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
"""Special tokens, unless tokenizer_config.json names others."""
POOLINGS: Final[dict[str, Pooling]] = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
"""By their names in configurations, of today and of before."""
OLD_POOLING: Final = "pooling_mode_"


class UnsupportedModelError(Exception):
    """The model needs sentence-transformers; the message says what for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BertCheckpoint:
    """`max_tokens` is the model's own limit; `specials` are its special tokens by their names in the configuration."""

    folder: Path
    layers: int
    heads: int
    width: int
    epsilon: float
    pooling: Pooling
    max_tokens: int
    prompts: Mapping[str, str]
    default_prompt: str | None
    specials: Mapping[str, str]


class _Config(BaseModel):
    """config.json."""

    model_type: Literal["bert"]
    hidden_act: Literal["gelu"]
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12


class _Transformer(BaseModel):
    """sentence_bert_config.json."""

    max_seq_length: int | None = None
    do_lower_case: bool = False
    transformer_task: Literal["feature-extraction"] = "feature-extraction"
    module_output_name: Literal["token_embeddings"] = "token_embeddings"
    processing_kwargs: dict[str, Any] | None = None
    query_length: None = None
    document_length: None = None
    query_expansion: None = None


class _Tokenizer(BaseModel):
    """tokenizer_config.json."""

    tokenizer_class: Literal["BertTokenizer", "BertTokenizerFast"]
    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    model_max_length: float = 512
    padding_side: Literal["right"] = "right"
    truncation_side: Literal["right"] = "right"


class _Library(BaseModel):
    """config_sentence_transformers.json."""

    prompts: dict[str, str | None] = {}
    default_prompt_name: str | None = None


def read_checkpoint(folder: Path) -> BertCheckpoint:
    """What the files of the folder say, but for weights. Raises UnsupportedModelError."""
    try:
        config = _read(folder / "config.json", _Config)
        pooling = _pooling(folder)
        transformer = _transformer(folder)
        tokenizer, specials = _tokenizer(folder)
        library = _read(folder / "config_sentence_transformers.json", _Library, optional=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedModelError(_reason(error)) from error
    if transformer.do_lower_case and not tokenizer.do_lower_case:
        raise UnsupportedModelError("do_lower_case is set for a tokenizer that keeps capitals")
    limits = [config.max_position_embeddings, int(min(tokenizer.model_max_length, 10**9))]
    if transformer.max_seq_length:
        limits = [config.max_position_embeddings, transformer.max_seq_length]
    return BertCheckpoint(
        folder=folder,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        width=config.hidden_size,
        epsilon=config.layer_norm_eps,
        pooling=pooling,
        max_tokens=min(limits),
        prompts={name: prompt for name, prompt in library.prompts.items() if prompt},
        default_prompt=library.default_prompt_name,
        specials=specials,
    )


_Model = TypeVar("_Model", bound=BaseModel)


def _read(path: Path, model: type[_Model], *, optional: bool = False) -> _Model:
    if optional and not path.exists():
        return model()
    return model.model_validate(_json(path))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _pooling(folder: Path) -> Pooling:
    modules = _json(folder / "modules.json")
    kinds = tuple(module["type"].rpartition(".")[2] for module in modules)
    if kinds not in (MODULES, MODULES[:2]) or not all(m["type"].startswith("sentence_transformers.") for m in modules):
        raise UnsupportedModelError(f"its modules are {', '.join(kinds)}")
    if modules[0]["path"]:
        raise UnsupportedModelError("its transformer is in a folder of its own")
    config = _json(folder / modules[1]["path"] / "config.json")
    chosen = [name.removeprefix(OLD_POOLING) for name, on in config.items() if on and name.startswith(OLD_POOLING)]
    modes = config.get("pooling_mode", chosen)
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UnsupportedModelError(f"its pooling is {' and '.join(modes)}")
    if not config.get("include_prompt", True):
        raise UnsupportedModelError("its pooling leaves the prompt out")
    return POOLINGS[modes[0]]


def _transformer(folder: Path) -> _Transformer:
    path = folder / "sentence_bert_config.json"
    found = _json(path) if path.exists() else {}
    if unknown := sorted(found.keys() - TRANSFORMER_KEYS):
        raise UnsupportedModelError(f"sentence_bert_config.json has {', '.join(unknown)}")
    transformer = _Transformer.model_validate(found)
    if transformer.processing_kwargs:
        raise UnsupportedModelError("sentence_bert_config.json has processing_kwargs")
    return transformer


def _tokenizer(folder: Path) -> tuple[_Tokenizer, dict[str, str]]:
    """The configuration and the special tokens. transformers builds a BertTokenizer's parts by the configuration, so
    tokenizer.json has to have the same."""
    named = _json(folder / "tokenizer_config.json")
    config = _Tokenizer.model_validate(named)
    specials = {name: _content(named.get(f"{name}_token", usual)) for name, usual in SPECIAL.items()}
    found = _json(folder / "tokenizer.json")
    wanted = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": config.tokenize_chinese_chars,
        "strip_accents": config.strip_accents,
        "lowercase": config.do_lower_case,
    }
    kinds = (found["model"]["type"], found["pre_tokenizer"]["type"], found["post_processor"]["type"])
    if found["normalizer"] != wanted or kinds != ("WordPiece", "BertPreTokenizer", "TemplateProcessing"):
        raise UnsupportedModelError("tokenizer.json is not what tokenizer_config.json says")
    if not {token["content"] for token in found["added_tokens"]} <= set(specials.values()):
        raise UnsupportedModelError("its tokenizer has tokens of its own")
    return config, specials


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{error.title.strip('_')}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
