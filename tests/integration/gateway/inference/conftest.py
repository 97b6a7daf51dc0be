"""A predictor with a model of each framework, behind a gateway."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from onnx import TensorProto

from tests.harness.broker import NatsServer
from tests.harness.gateways import grpc_address_of
from tests.harness.models import write_doubler, write_echo, write_large
from tests.harness.processes import ServiceProcess
from tests.harness.trained_models import TRAINERS

ECHOED = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""The inputs of the model `echo`, by datatype."""

BFLOAT = """
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Model:
    def load(self, folder: Path) -> None:
        pass

    def predict(self, x: NDArray[np.float32], parameters: dict) -> dict[str, NDArray[np.float32]]:
        if parameters.get("fail"):
            raise ValueError("as it was asked to")
        return {"y": x}
"""


GATE = """
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Model:
    def load(self, folder: Path) -> None:
        pass

    def predict(self, x: NDArray[np.float32], parameters: dict) -> NDArray[np.float32]:
        while not Path(parameters["open"]).exists():
            time.sleep(0.01)
        return x
"""
"""A model that answers once a file is there."""


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each framework by its name, and others that are made for what a test asks."""
    root = tmp_path_factory.mktemp("repository")
    for name, train in TRAINERS.items():
        (root / name / "1").mkdir(parents=True)
        train(root / name / "1")
    write_doubler(root / "doubler" / "1")
    write_doubler(root / "doubler" / "2", factor=3.0)
    (root / "doubler" / "model.yaml").write_text("versions: all\n")
    write_echo(root / "echo" / "1", ECHOED)
    write_echo(root / "typed" / "1", {name: kind for name, kind in ECHOED.items() if name != "FP16"})
    write_large(root / "large" / "1", megabytes=8)
    write_doubler(root / "private" / "1")
    (root / "private" / "model.yaml").write_text("tenants: [somebody]\n")
    (root / "broken" / "1").mkdir(parents=True)
    (root / "broken" / "1" / "model.onnx").write_bytes(b"this is no model")
    (root / "bfloat" / "1").mkdir(parents=True)
    (root / "bfloat" / "1" / "model.py").write_text(BFLOAT)
    (root / "bfloat" / "model.yaml").write_text(
        "inputs: [{name: x, datatype: BF16, shape: [-1]}]\noutputs: [{name: y, datatype: BF16, shape: [-1]}]\n"
    )
    (root / "gate" / "1").mkdir(parents=True)
    (root / "gate" / "1" / "model.py").write_text(GATE)
    return root


@pytest.fixture(scope="module")
def predictor(
    broker: NatsServer, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("predictor")
    with ServiceProcess(
        "services.predictor",
        folder,
        nats_url=broker.url,
        model_repository=repository,
        allow_model_code=True,
        max_tensor_bytes=4 * 2**20,
    ) as process:
        yield process


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, object]:
    return {"max_tensor_bytes": 4 * 2**20, "grpc_port": 0}


@pytest.fixture
def grpc_address(gateway: ServiceProcess, predictor: ServiceProcess) -> str:
    return grpc_address_of(gateway)


@pytest.fixture
def client(gateway: ServiceProcess, predictor: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
        yield client
