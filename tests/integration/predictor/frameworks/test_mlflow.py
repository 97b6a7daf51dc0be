"""Models that a real MLflow has saved: our frameworks serve them by their rules, and MLflow itself where it may."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from services.predictor.frameworks.base import FrameworkOptions, LoadedModel, ModelFiles, NotLoadableError
from services.predictor.frameworks.registry import find_file
from services.predictor.serving.arrays import to_array, to_tensor
from services.predictor.serving.served_model import ModelLimits, ServedModel
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferRequest
from tests.harness.mlflow_models import run, save_models
from tests.harness.mlflow_server import PYTHON
from tests.harness.transformers_models import save_model

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not PYTHON.exists(), reason="make test sets MLflow's environment up"),
]

SAFE = FrameworkOptions(threads=1)
TRUSTED = FrameworkOptions(threads=1, allow_pickle=True)

Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("mlflow")
    save_model(folder / "words", "BertForSequenceClassification")
    return folder, save_models(folder, folder / "words")


@pytest.fixture
def folder(saved: tuple[Path, dict[str, Any]]) -> Path:
    return saved[0]


@pytest.fixture
def expected(saved: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return saved[1]


def load(folder: Path, options: FrameworkOptions = SAFE, **more: Any) -> LoadedModel:
    framework, file = find_file(folder, None, "")
    assert framework.name == "mlflow"
    framework.prepare()
    return framework.load(ModelFiles(name="m", version="1", folder=folder, file=file, **more), options)


async def ask(model: LoadedModel, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    with ThreadPoolExecutor(1) as threads:
        async with ServedModel("m", model, ModelLimits(batch_rows=32, waiting=9), threads).running() as served:
            tensors = tuple(to_tensor(name, array) for name, array in arrays.items())
            made = await served.infer(InferRequest(inputs=tensors), Lane.INTERACTIVE)
    return {tensor.name: to_array(tensor) for tensor in made}


def columns(expected: Mapping[str, Any]) -> Arrays:
    rows = np.array(expected["rows"])
    return {name: rows[:, index].copy() for index, name in enumerate("abc")}


@pytest.mark.parametrize("name", ["sklearn", "xgboost", "booster", "lightgbm"])
async def test_columns_of_the_signature_are_the_inputs_of_a_table(
    folder: Path, expected: dict[str, Any], name: str
) -> None:
    model = load(folder / name)
    assert [(each.name, each.datatype, each.shape) for each in model.signature.inputs] == [
        (column, Datatype.FP64, (-1,)) for column in "abc"
    ]
    made = await ask(model, columns(expected))
    np.testing.assert_allclose(made["predict"], expected[name], rtol=1e-5)


async def test_columns_of_texts_and_numbers_stand_in_one_table(folder: Path, expected: dict[str, Any]) -> None:
    cities = np.array([city.encode() for city in expected["cities"]], dtype=object)
    made = await ask(load(folder / "mixed"), {**columns(expected), "city": cities})
    np.testing.assert_array_equal(made["predict"], expected["mixed"])


async def test_a_tensor_is_the_rows_and_the_named_method_is_the_output(folder: Path, expected: dict[str, Any]) -> None:
    made = await ask(load(folder / "chances"), {"any": np.array(expected["rows"])})
    np.testing.assert_allclose(made["predict_proba"], expected["chances"], rtol=1e-6)


async def test_graphs_and_programs_have_tensors_of_their_own(folder: Path, expected: dict[str, Any]) -> None:
    rows = np.array(expected["rows"], np.float32)
    made = await ask(load(folder / "onnx"), {"x": rows})
    np.testing.assert_allclose(made["y"], expected["onnx"], rtol=1e-6)
    program = load(folder / "pytorch")
    (given,) = program.signature.inputs
    made = await ask(program, {given.name: rows})
    np.testing.assert_allclose(made["output"], expected["pytorch"], rtol=1e-5, atol=1e-6)


async def test_a_pipeline_of_transformers_is_served_for_its_task(folder: Path, expected: dict[str, Any]) -> None:
    made = await ask(load(folder / "transformers"), {"text": np.array([b"good day", b"bad"], dtype=object)})
    np.testing.assert_allclose(made["score"][:, 0], expected["transformers"], rtol=1e-4)


async def test_a_pickle_needs_the_setting(folder: Path, expected: dict[str, Any]) -> None:
    with pytest.raises(NotLoadableError, match=r"model\.pkl is a pickle.*SLUICE_ALLOW_PICKLE=true"):
        load(folder / "pickle")
    made = await ask(load(folder / "pickle", TRUSTED), columns(expected))
    np.testing.assert_array_equal(made["predict"], expected["pickle"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a": np.ones(1), "b": np.ones(1)}, "'c' is missing"),
        ({"a": np.ones(1), "b": np.ones(1), "c": np.ones(1, np.int64)}, "'c' is INT64, and the model takes FP64"),
        ({"a": np.ones(1), "b": np.ones(2), "c": np.ones(1)}, "differ in their length"),
        ({"a": np.ones(1), "b": np.ones(1), "c": np.ones(1), "d": np.ones(1)}, "no input 'd'"),
        ({"a": np.ones(1), "b": np.ones(1), "c": np.full(1, np.nan)}, "contains NaN"),
    ],
)
async def test_columns_that_do_not_fit_are_the_caller_s_fault(folder: Path, given: Arrays, said: str) -> None:
    with pytest.raises(Problem) as raised:
        await ask(load(folder / "sklearn"), given)
    assert raised.value.kind is ProblemType.INVALID_REQUEST
    assert said in raised.value.detail


@pytest.mark.parametrize(
    ("name", "options", "needed"),
    [
        ("pyfunc", SAFE, "Set SLUICE_ALLOW_PICKLE=true where"),
        ("pyfunc", FrameworkOptions(allow_code=True), "Set SLUICE_ALLOW_PICKLE=true where"),
        ("from_code", TRUSTED, "Set SLUICE_ALLOW_MODEL_CODE=true where"),
        ("unknown", SAFE, "Set SLUICE_ALLOW_PICKLE=true and SLUICE_ALLOW_MODEL_CODE=true where"),
        ("unknown", TRUSTED, "Set SLUICE_ALLOW_MODEL_CODE=true where"),
    ],
)
def test_mlflow_s_own_loaders_need_the_settings_for_what_they_run(
    folder: Path, tmp_path: Path, name: str, options: FrameworkOptions, needed: str
) -> None:
    if name == "unknown":
        (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}")
    with pytest.raises(NotLoadableError, match=needed):
        load(tmp_path if name == "unknown" else folder / name, options)


def test_without_mlflow_the_reason_names_it(folder: Path) -> None:
    with pytest.raises(NotLoadableError, match="needs the package mlflow"):
        load(folder / "pyfunc", TRUSTED)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flavors": {"spark": {}}}, "flavours spark, none of which is served"),
        ({"flavors": []}, "not a file of MLflow"),
        ({"signature": {"inputs": "[{"}}, "not a file of MLflow"),
        ({"signature": {"inputs": json.dumps([{"type": "any", "name": "x"}])}}, "of any type"),
        ({"flavors": {"sklearn": {"pickled_model": "../sklearn/model.skops"}}}, "not in the model's folder"),
        ({"flavors": {"xgboost": {"data": "model.skops", "model_class": "os.system"}}}, "not one of XGBoost's"),
    ],
)
def test_a_file_that_is_wrong_says_what_is(folder: Path, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    (tmp_path / "model.skops").write_bytes((folder / "sklearn" / "model.skops").read_bytes())
    content = yaml.safe_load((folder / "sklearn" / "MLmodel").read_text())
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(NotLoadableError, match=reason):
        load(tmp_path)


CALLS = """
import numpy as np
from services.predictor.frameworks.base import FrameworkOptions, InvalidInputError, ModelFiles
from services.predictor.frameworks.mlflow.framework import MlflowFramework
from shared.contracts.tensors import Datatype, TensorSpec

allowed = FrameworkOptions(allow_pickle=True, allow_code=True)


def load(name, **more):
    folder = Path(given["folder"]) / name
    files = ModelFiles(name="m", version="1", folder=folder, file=folder / "MLmodel", **more)
    return MlflowFramework().load(files, allowed)


def told(made):
    return {name: [str(e) if isinstance(e, str) else float(e) for e in array] for name, array in made.items()}


def specs(tensors):
    return [[each.name, str(each.datatype), list(each.shape)] for each in tensors]


frames = load("pyfunc")
rows = {"a": np.array([1.5, 2]), "b": np.array([1, 2]), "name": np.array([b"x", "é".encode()], dtype=object)}
said = {"columns": told(frames.predict(rows, (), {})), "inputs": specs(frames.signature.inputs)}
said["outputs"] = specs(frames.signature.outputs)
tensors = load("tensors")
said["tensors"] = told(tensors.predict({"input": np.ones((2, 3), np.float32)}, (), {"factor": 2.0, "timeout": 5}))
try:
    tensors.predict({"input": np.ones((2, 4), np.float32)}, (), {})
except InvalidInputError as error:
    said["refused"] = str(error)
column = lambda name: TensorSpec(name=name, datatype=Datatype.FP64, shape=(-1,))
unsigned = load("unsigned", inputs=(column("a"), column("b")))
said["unsigned"] = told(unsigned.predict({"a": np.ones(2), "b": np.ones(2)}, (), {}))
made = load("from_code").predict({"input": np.ones((2, 3), np.float32)}, (), {})["output"]
said["from_code"] = made.tolist()
print(json.dumps(said))
"""


def test_any_other_model_is_called_by_mlflow_where_that_is_allowed(folder: Path) -> None:
    said = run(CALLS, {"folder": str(folder)})
    assert said["inputs"] == [["a", "FP64", [-1]], ["b", "INT64", [-1]], ["name", "BYTES", [-1]]]
    assert said["outputs"] == [["sum", "FP64", [-1]], ["name", "BYTES", [-1]]]
    assert said["columns"] == {"sum": [2.5, 4], "name": ["X", "É"]}
    assert said["tensors"] == {"output": [6, 6]}
    assert "(-1, 3)" in said["refused"]
    assert said["unsigned"] == {"output": [2, 2]}
    assert said["from_code"] == [[-1, -1, -1]] * 2
