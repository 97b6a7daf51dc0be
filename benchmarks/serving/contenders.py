"""The servers of one small ONNX model. Each answers on one port, at /v2/models/small/infer."""

import json
import os
import socket
import sys
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import suite
from benchmarks.pipeline.contenders import Contender, Processes, fetch, listening, wait_answer
from benchmarks.pipeline.peers import QUIET
from tests.harness.broker import NatsServer
from tests.harness.trained_models import COLUMNS, train_onnx

__all__ = ["CONTENDERS", "EXPECTED", "ModelContender", "available"]

MODEL: Final = "small"
ROW: Final = np.array([[0.5, -1.0, 2.0, 0.25]], np.float32)
INPUT: Final = {"name": "input", "datatype": "FP32", "shape": [1, COLUMNS], "data": ROW.ravel().tolist()}
EXPECTED: list[float] = []
"""What the model gives for the row, once a contender has run."""


class ModelContender(Contender):
    """Its processes, from the first on, serve a model that was written for it."""

    environment = "serving"
    """Which of the environments of peers has it."""

    @classmethod
    def python(cls) -> Path:
        return suite.ROOT / f".venv-peers-{cls.environment}" / "bin" / "python"

    def _body(self, number: int, streamed: bool) -> dict[str, Any]:  # noqa: ARG002
        return {"inputs": [INPUT]}

    def _start(self, stack: ExitStack, processes: Processes, folder: Path) -> None:
        predict = train_onnx(folder / "models" / MODEL / "1")
        EXPECTED[:] = predict(ROW).ravel().tolist()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer"
        self._serve(stack, processes, folder, port)

    @abstractmethod
    def _serve(self, stack: ExitStack, processes: Processes, folder: Path, port: int) -> None:
        """Start the processes, of which one listens on the port."""


class Sluice(ModelContender):
    name = "sluice"
    label = "Sluice"
    peer = False

    def _serve(self, stack: ExitStack, processes: Processes, folder: Path, port: int) -> None:  # noqa: ARG002
        broker = stack.enter_context(NatsServer(folder / "nats"))
        self.pids.append(broker.pid)
        with listening() as bound:
            base = f"http://127.0.0.1:{bound.getsockname()[1]}"
            self.url = f"{base}/v2/models/{MODEL}/infer"
            settings = {"SLUICE_NATS_URL": broker.url, "SLUICE_DATA_DIR": str(folder)}
            command = [sys.executable, "-m", "services.gateway"]
            processes.start(command, fds=(bound.fileno(),), SLUICE_HTTP_FD=str(bound.fileno()), **settings)
        with listening() as bound:
            settings |= {"SLUICE_MODEL_REPOSITORY": str(folder / "models"), "SLUICE_HTTP_FD": str(bound.fileno())}
            processes.start([sys.executable, "-m", "services.predictor"], fds=(bound.fileno(),), **settings)
        wait_answer(lambda: fetch(self.url, self._body(0, streamed=False)), processes, "the predictor")


class KServe(ModelContender):
    name = "kserve"
    label = "KServe ModelServer"

    def _serve(self, stack: ExitStack, processes: Processes, folder: Path, port: int) -> None:  # noqa: ARG002
        command = [str(self.python()), "-m", "benchmarks.peers.serve_kserve", str(port)]
        processes.start(command, MODEL_FOLDER=str(folder / "models"))


class RayServe(ModelContender):
    name = "ray"
    label = "Ray Serve"

    def _serve(self, stack: ExitStack, processes: Processes, folder: Path, port: int) -> None:  # noqa: ARG002
        command = [str(self.python()), "-m", "benchmarks.peers.serve_ray", str(port), str(folder / "ray")]
        processes.start(command, MODEL_FOLDER=str(folder / "models"), **QUIET)


class MLServer(ModelContender):
    name = "mlserver"
    label = "MLServer"
    environment = "mlserver"

    def _serve(self, stack: ExitStack, processes: Processes, folder: Path, port: int) -> None:  # noqa: ARG002
        with socket.create_server(("127.0.0.1", 0)) as grpc, socket.create_server(("127.0.0.1", 0)) as metrics:
            ports = {"grpc_port": grpc.getsockname()[1], "metrics_port": metrics.getsockname()[1]}
        served = folder / "mlserver"
        (served / MODEL).mkdir(parents=True)
        settings = {"http_port": port, "parallel_workers": 0, "debug": False, **ports}
        (served / "settings.json").write_text(json.dumps(settings))
        model = {"name": MODEL, "implementation": "benchmarks.peers.serve_mlserver.Small"}
        (served / MODEL / "model-settings.json").write_text(json.dumps(model))
        command = [str(self.python().with_name("mlserver")), "start", str(served)]
        path = os.pathsep.join((str(suite.ROOT), os.environ.get("PYTHONPATH", "")))
        processes.start(command, MODEL_FOLDER=str(folder / "models"), PYTHONPATH=path)


CONTENDERS: dict[str, type[ModelContender]] = {each.name: each for each in (Sluice, KServe, RayServe, MLServer)}


def available(only: Sequence[str] | None) -> list[str]:
    """Those asked for, or all; without those whose environment is not installed, and says so."""
    found = []
    for name, contender in CONTENDERS.items():
        if only and name not in only:
            continue
        if contender.peer and not contender.python().exists():
            suite.say(f"{contender.label} is left out: `make peers` installs it")
        else:
            found.append(name)
    if not found:
        raise SystemExit("none of these contenders is installed")
    return found
