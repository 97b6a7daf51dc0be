"""Files of models that are damaged, or made to do harm: the process outlives them."""

import os
import zipfile
from pathlib import Path

import pytest

from services.predictor.frameworks.base import FrameworkOptions, ModelFiles, NotLoadableError
from services.predictor.frameworks.registry import FRAMEWORKS, find_file

TREE = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=3
objective=regression
feature_names=a b c d
feature_infos=none none none none
tree_sizes=100

Tree=0
num_leaves=2000000000
num_cat=0
split_feature=999999
"""


def load(framework: str, file: Path) -> None:
    FRAMEWORKS[framework].load(ModelFiles(name="m", version="1", folder=file.parent, file=file), FrameworkOptions())


def test_a_damaged_model_of_lightgbm_does_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text(TREE)
    with pytest.raises(NotLoadableError, match=r"model.txt is damaged"):
        load("lightgbm", tmp_path / "model.txt")


def test_a_small_archive_that_becomes_large_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes(65 * 2**20))
    with pytest.raises(NotLoadableError, match=r"unpacks to 65 MiB"):
        load("sklearn", tmp_path / "model.skops")


def test_what_is_no_regular_file_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    for file in ("", "model.onnx"):
        with pytest.raises(NotLoadableError, match="has no file"):
            find_file(tmp_path, None, file)
