"""What a folder of a model repository says, in each of the three forms of configuration."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from services.predictor.frameworks.base import NotLoadableError
from services.predictor.repository import repository
from services.predictor.repository.config import Latest, read_config
from services.predictor.repository.layout import ModelFolder, Stamp, read_model, stamp_of
from shared.contracts.tensors import Datatype

PBTXT = """
backend: "onnxruntime" max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }
output { name: "y" data_type: TYPE_STRING dims: [ 1 ] }
version_policy: { all { } }
"""
SETTINGS = """{"name": "m", "implementation": "mlserver_sklearn.SKLearnModel", "max_batch_size": 2,
"parameters": {"uri": "./model.joblib"}, "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]}"""


def model(folder: Path) -> ModelFolder:
    return read_model(folder, stamp_of(folder))


def version(folder: Path, name: str, file: str = "model.onnx") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / file).write_bytes(b"x")


def test_the_newest_version_is_served_and_the_one_before_stands_by(tmp_path: Path) -> None:
    for name in ("2", "10", "9", "not-a-version"):
        version(tmp_path / "m", name)
    read = model(tmp_path / "m")
    assert [each.version for each in read.versions] == ["10"]
    assert [each.version for each in read.standby] == ["9"]


@pytest.mark.parametrize(
    ("policy", "served"), [("all", ["3", "2", "1"]), ("{latest: 2}", ["3", "2"]), ('["1", "3", "7"]', ["3", "1"])]
)
def test_a_policy_says_which_versions_are_served(tmp_path: Path, policy: str, served: list[str]) -> None:
    for name in ("1", "2", "3"):
        version(tmp_path / "m", name)
    (tmp_path / "m" / "model.yaml").write_text(f"versions: {policy}")
    assert [each.version for each in model(tmp_path / "m").versions] == served


def test_a_model_without_folders_of_versions_has_one(tmp_path: Path) -> None:
    version(tmp_path, "m", "model.ubj")
    (read,) = model(tmp_path / "m").versions
    assert (read.version, read.framework and read.framework.name) == ("1", "xgboost")


def test_what_is_wrong_is_the_model_s_problem(tmp_path: Path) -> None:
    version(tmp_path / "embed", "1")
    assert "is that of a model of Sluice's own" in model(tmp_path / "embed").problem
    version(tmp_path / "a b", "1")
    assert "its name is not one" in model(tmp_path / "a b").problem
    version(tmp_path / "m", "1", "readme.md")
    assert "has no file" in model(tmp_path / "m").versions[0].problem
    (tmp_path / "m" / "model.yaml").write_text("framework: tea")
    assert "there is no framework 'tea'" in model(tmp_path / "m").problem
    (tmp_path / "m" / "model.yaml").write_text("max_batch_sise: 3")
    assert "max_batch_sise" in model(tmp_path / "m").problem
    (tmp_path / "m" / "model.yaml").write_text('versions: ["4"]')
    assert model(tmp_path / "m").problem == "it has no version that is served; it has 1"


def test_links_within_a_model_lead_to_its_own_files(tmp_path: Path) -> None:
    model, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    for folder in (model / "1", model / "shared", elsewhere):
        folder.mkdir(parents=True)
    (model / "shared" / "model.onnx").write_bytes(b"a")
    (model / "1" / "model.onnx").symlink_to("../shared/model.onnx")
    (model / "2").symlink_to("1")
    (tmp_path / "link").symlink_to("model")
    for folder in (model, tmp_path / "link"):
        read = read_model(folder, stamp_of(folder))
        assert [(each.version, each.problem) for each in (*read.versions, *read.standby)] == [("2", ""), ("1", "")]
    before = stamp_of(model).digest
    (model / "shared" / "model.onnx").write_bytes(b"other")
    assert stamp_of(model).digest != before
    for target, said in ((elsewhere, "leads out of the model's folder"), ("..", "a folder that it is in")):
        link = model / "1" / "more"
        link.symlink_to(target)
        read = read_model(model, stamp_of(model))
        assert said in read.problem
        assert not read.versions
        link.unlink()


def test_a_pipe_anywhere_in_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(b"a")
    os.mkfifo(tmp_path / "1" / "tokenizer.json")
    read = read_model(tmp_path, stamp_of(tmp_path))
    assert (read.problem, read.versions) == ("1/tokenizer.json is not a regular file", ())


def test_a_change_of_files_or_configuration_is_another_stamp(tmp_path: Path) -> None:
    version(tmp_path / "m", "1")
    before = model(tmp_path / "m").versions[0].stamp
    assert model(tmp_path / "m").versions[0].stamp == before
    (tmp_path / "m" / "model.yaml").write_text("max_batch_size: 3")
    changed = model(tmp_path / "m").versions[0].stamp
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(b"xy")
    assert len({before, changed, model(tmp_path / "m").versions[0].stamp}) == 3


def test_triton_s_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(PBTXT)
    config = read_config(tmp_path)
    assert (config.framework, config.max_batch_size, config.versions) == ("onnxruntime", 4, "all")
    assert [(each.name, each.datatype, each.shape) for each in config.inputs] == [("x", Datatype.FP32, (-1, 3))]
    assert config.outputs[0].datatype is Datatype.BYTES


def test_mlserver_s_settings(tmp_path: Path) -> None:
    (tmp_path / "model-settings.json").write_text(SETTINGS)
    config = read_config(tmp_path)
    assert (config.file, config.max_batch_size, config.versions) == ("model.joblib", 2, Latest(latest=1))
    (tmp_path / "model.joblib").write_bytes(b"x")
    (read,) = model(tmp_path).versions
    assert read.framework
    assert read.framework.name == "sklearn"


@pytest.mark.parametrize(
    "text", ["{", "[]", "inputs: [{name: x, datatype: FP31, shape: []}]", "file: ../../etc/passwd"]
)
def test_a_configuration_that_cannot_be_read_says_why(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(NotLoadableError, match=r"model\.yaml: "):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.pbtxt", "max_batch_size: 1e999"),
        ("config.pbtxt", 'parameters: "a"'),
        ("config.pbtxt", 'parameters { key: "a" value: "b" }'),
        ("config.pbtxt", 'input: "x"'),
        ("config.pbtxt", 'input { name: "x" dims: [1e999] }'),
        ("config.pbtxt", 'version_policy { latest: "x" }'),
        ("model.yaml", "parameters: " + "[" * 900 + "]" * 900),
        ("model.yaml", "parameters: {a: &a [x], b: *a}"),
        ("model.yaml", "parameters: &a {x: *a}"),
        ("model-settings.json", "[" * 100_000),
        ("model-settings.json", '{"parameters": "a"}'),
        ("model-settings.json", '{"inputs": [{}]}'),
    ],
)
def test_a_configuration_of_any_form_is_at_most_its_model_s_problem(tmp_path: Path, file: str, text: str) -> None:
    version(tmp_path / "m", "1")
    (tmp_path / "m" / file).write_text(text)
    assert model(tmp_path / "m").problem.startswith(file)


async def test_a_model_that_nobody_can_read_does_not_take_the_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(folder: Path, stamp: Stamp) -> ModelFolder:
        if folder.name == "bad":
            raise LookupError("unforeseen")
        return read_model(folder, stamp)

    monkeypatch.setattr(repository, "read_model", read)
    changed = asyncio.Event()
    version(tmp_path / "bad", "1")
    version(tmp_path / "good", "1")
    async with asyncio.timeout(30):
        async with repository.Repository(tmp_path, seconds=0.01, changed=changed.set).running() as models:
            while {"bad", "good"} - {each.name for each in models.models("default")}:
                await changed.wait()
                changed.clear()
            assert "unforeseen" in models.model("bad", "default").problem
            version(tmp_path / "later", "1")
            while len(list(models.models("default"))) < 3:
                await changed.wait()
                changed.clear()


async def test_models_that_were_just_written_are_there_from_the_start(tmp_path: Path) -> None:
    version(tmp_path / "m", "1")
    async with repository.Repository(tmp_path, seconds=0.01, changed=lambda: None).running() as models:
        assert [each.name for each in models.models("default")] == ["m"]


async def test_a_model_that_is_being_written_does_not_hold_up_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(1_000))
    monkeypatch.setattr(repository, "stamp_of", lambda _: Stamp(digest=str(next(looks)), newest=time.time(), size=1))
    version(tmp_path / "m", "1")
    async with repository.Repository(tmp_path, seconds=0.01, changed=lambda: None).running() as models:
        assert not list(models.models("default"))
