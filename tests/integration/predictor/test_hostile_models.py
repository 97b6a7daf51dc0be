"""Models that are made to do harm, in a repository with one that is not: it goes on answering, and nothing is told of
the machine."""

import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.harness.broker import NatsServer
from tests.harness.gateways import running_gateway
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess
from tests.harness.transformers_models import save_model

PRECOMPILED: Final = {"type": "Precompiled", "precompiled_charsmap": "////f2FiYw=="}
PANICS: Final = {"type": "FixedLength", "length": 0}


def with_tokenizer(folder: Path, **members: object) -> None:
    """A text classifier whose tokenizer has these members instead."""
    save_model(folder, "BertForSequenceClassification")
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **members}))


def panics_at_load(folder: Path) -> None:
    with_tokenizer(folder, normalizer=PRECOMPILED)


def panics_in_work(folder: Path) -> None:
    with_tokenizer(folder, pre_tokenizer=PANICS)


def truncated(folder: Path) -> None:
    save_model(folder, "BertForSequenceClassification")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def broken_onnx(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")


def broken_openvino(folder: Path) -> None:
    (folder / "model.xml").write_text("<net/>")


def broken_xgboost(folder: Path) -> None:
    (folder / "model.ubj").write_bytes(b"")


class Opened:
    def __reduce__(self) -> Any:
        return open, ("ran", "w")


def disguised_pickle(folder: Path) -> None:
    (folder / "model.skops").write_bytes(pickle.dumps(Opened()))


def links_to_itself(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).symlink_to(".")


def links_out(folder: Path) -> None:
    write_doubler(folder.parents[2] / "outside")
    (folder / "model.onnx").symlink_to(folder.parents[2] / "outside" / "model.onnx")


def links_to_all(folder: Path) -> None:
    (folder / "all").symlink_to("/")


def dangles(folder: Path) -> None:
    write_doubler(folder)
    (folder / "notes.txt").symlink_to("gone.txt")


HOSTILE: Final[Mapping[str, tuple[Callable[[Path], None], str]]] = {
    "panics-at-load": (panics_at_load, "PanicException"),
    "panics-in-work": (panics_in_work, "PanicException"),
    "truncated": (truncated, "SafetensorError"),
    "broken-onnx": (broken_onnx, "model.onnx failed"),
    "broken-openvino": (broken_openvino, "cannot be loaded"),
    "broken-xgboost": (broken_xgboost, "XGBoostError"),
    "disguised-pickle": (disguised_pickle, "not a zip file"),
    "links-to-itself": (links_to_itself, "link"),
    "links-out": (links_out, "link"),
    "links-to-all": (links_to_all, "link"),
}
"""By the model's name: what makes it, and what is said of it."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("hostile") / "models"
    write_doubler(models / "doubler" / "1")
    write_doubler(models / "Doubler" / "1", factor=3.0)
    for name, make in {**{name: make for name, (make, _) in HOSTILE.items()}, "dangles": dangles}.items():
        folder = models / name / "1"
        folder.mkdir(parents=True)
        make(folder)
    return models


@pytest.fixture(scope="module")
def predictor(
    broker: NatsServer, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("predictor")
    with ServiceProcess("services.predictor", folder, nats_url=broker.url, model_repository=repository) as process:
        yield process


@pytest.fixture(scope="module")
def client(
    broker: NatsServer, predictor: ServiceProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    with (
        running_gateway(broker, tmp_path_factory.mktemp("gateway"), default_timeout=60) as gateway,
        httpx.Client(base_url=gateway.url, timeout=90, trust_env=False) as client,
    ):
        yield client


def doubled(client: httpx.Client, model: str = "doubler") -> list[float]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    response = client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})
    assert response.status_code == 200, response.text
    data: list[float] = response.json()["outputs"][0]["data"]
    return data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_says_what_is_wrong_and_takes_no_other_along(
    name: str, client: httpx.Client, predictor: ServiceProcess, repository: Path
) -> None:
    pid, tensor = predictor.pid, {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]}
    for _ in range(2):
        response = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})
        assert response.status_code in (500, 503), response.text
        assert HOSTILE[name][1] in response.json()["error"], response.text
        assert doubled(client) == [2, 4, 6]
    index = client.post("/v2/repository/index", json={}).text
    for text in (response.text, index):
        assert str(repository.parent) not in text
        assert "site-packages" not in text
    assert predictor.pid == pid
    os.kill(pid, 0)
    assert not Path("ran").exists()


def test_a_model_whose_link_leads_nowhere_answers_from_its_other_files(client: httpx.Client) -> None:
    assert doubled(client, "dangles") == [2, 4, 6]


def test_models_whose_names_differ_by_case_are_two(client: httpx.Client) -> None:
    assert doubled(client, "Doubler") == [3, 6, 9]
    assert doubled(client, "doubler") == [2, 4, 6]
