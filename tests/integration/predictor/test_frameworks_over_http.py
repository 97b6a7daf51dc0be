"""Models of PyTorch, transformers and MLflow in a predictor of its own, asked over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from tests.harness.broker import NatsServer
from tests.harness.gateways import running_gateway
from tests.harness.processes import ServiceProcess
from tests.harness.trained_models import COLUMNS, ROWS, TRAINERS
from tests.harness.transformers_models import save_model

CLASSES = ("a", "b", "c")
SIGNATURE = '[{"type": "double", "name": "x"}, {"type": "double", "name": "y"}]'


@pytest.fixture(scope="module")
def client(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("frameworks")
    models = folder / "models"
    for name in ("program", "sentiment", "table"):
        (models / name / "1").mkdir(parents=True)
    TRAINERS["pytorch"](models / "program" / "1")
    save_model(models / "sentiment" / "1", "BertForSequenceClassification", CLASSES)
    (models / "sentiment" / "model.yaml").write_text("parameters: {top_k: 2}")
    write_table(models / "table" / "1")
    worker = ServiceProcess("services.predictor", folder, nats_url=broker.url, model_repository=models)
    with (
        running_gateway(broker, folder, default_timeout=120) as gateway,
        worker,
        httpx.Client(base_url=gateway.url, timeout=150, trust_env=False) as client,
    ):
        yield client


def write_table(folder: Path) -> None:
    skops.io.dump(LogisticRegression().fit(ROWS[:, :2], ROWS[:, 0] > 0), folder / "model.skops")
    flavors = {"sklearn": {"pickled_model": "model.skops"}, "python_function": {"loader_module": "mlflow.sklearn"}}
    content = {"flavors": flavors, "signature": {"inputs": SIGNATURE, "outputs": None}}
    (folder / "MLmodel").write_text(yaml.safe_dump(content))


def infer(client: httpx.Client, model: str, *inputs: tuple[str, str, list[int], list[Any]]) -> httpx.Response:
    tensors = [
        {"name": name, "datatype": datatype, "shape": shape, "data": data} for name, datatype, shape, data in inputs
    ]
    return client.post(f"/v2/models/{model}/infer", json={"inputs": tensors})


def test_a_program_of_pytorch_answers(client: httpx.Client) -> None:
    response = infer(client, "program", ("input", "FP32", [2, COLUMNS], [0.5] * 2 * COLUMNS))
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predict", "FP32", [2, 2])
    assert client.get("/v2/models/program").json()["platform"] == "pytorch"


def test_texts_are_classified(client: httpx.Client) -> None:
    response = infer(client, "sentiment", ("text", "BYTES", [2], ["good day", "bad"]))
    assert response.status_code == 200, response.text
    label, score = response.json()["outputs"]
    assert label["shape"] == score["shape"] == [2, 2]
    assert set(label["data"]) <= set(CLASSES)
    assert np.all(np.array(score["data"]) > 0)


def test_columns_of_mlflow_answer(client: httpx.Client) -> None:
    response = infer(client, "table", ("x", "FP64", [3], [-3, 3, 2]), ("y", "FP64", [3], [0, 0, 0]))
    assert response.status_code == 200, response.text
    assert response.json()["outputs"][0]["data"] == [False, True, True]


@pytest.mark.parametrize(
    ("model", "tensor", "said"),
    [
        ("program", ("input", "FP32", [1, 1], [1.0]), "the model takes [-1, 4]"),
        ("program", ("input", "INT64", [1, COLUMNS], [1] * COLUMNS), "the model takes FP32"),
        ("program", ("other", "FP32", [1, COLUMNS], [1.0] * COLUMNS), "has no input 'other'"),
        ("sentiment", ("text", "FP32", [1], [1.0]), "the model takes BYTES"),
        ("sentiment", ("text", "BYTES", [1, 1], ["good"]), "the model takes [-1]"),
        ("table", ("x", "FP64", [1], [1.0]), "The input 'y' is missing"),
    ],
)
def test_an_input_that_does_not_fit_is_400(client: httpx.Client, model: str, tensor: Any, said: str) -> None:
    response = infer(client, model, tensor)
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]
