"""A real MLflow tracking server, in an environment of its own as it pins much.

`python -m tests.harness.mlflow_server` makes the environment, once; `make test` does so.
"""

import os
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from tests.harness.paths import ROOT

__all__ = ["MLflowServer", "metrics", "params", "tags"]

ENVIRONMENT: Final = Path(sys.prefix) / "mlflow"
LOCK: Final = ROOT / "tests" / "integration" / "scheduler" / "tracking" / "requirements.lock"
PYTHON: Final = ENVIRONMENT / "bin" / "python"
SLOW_START: Final = 180.0


class MLflowServer:
    """It keeps its port and what it was given over restarts. As a context manager it is started, and killed at the end.

    Its packages of models, and of clouds, are not there: the environment names what the server itself imports.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._log = folder / "mlflow.log"
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(trust_env=False, timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it; it may not answer yet."""
        with socket.socket() as listening, self._log.open("ab") as log:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self._port))
            listening.listen(128)
            self._port = listening.getsockname()[1]
            # What `mlflow server` does, without its process beside the server's.
            self._process = subprocess.Popen(
                [PYTHON, "-m", "uvicorn", "--fd", str(listening.fileno()), "mlflow.server.fastapi_app:app"],
                env={
                    **os.environ,
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self._folder / 'mlflow.db'}",
                    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
                    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self._folder / "files"),
                    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
                },
                pass_fds=[listening.fileno()],
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Until it answers from its database."""
        deadline = time.monotonic() + SLOW_START
        while True:
            assert self._process is not None
            assert self._process.poll() is None, f"MLflow ended:\n{self._log.read_text()}"
            assert time.monotonic() < deadline, f"MLflow did not become ready:\n{self._log.read_text()}"
            try:
                if self._http.get(f"{self.url}/health").status_code == 200 and self.experiments():
                    return
            except (httpx.HTTPError, KeyError):
                pass
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._http.close()

    def experiments(self) -> dict[str, str]:
        """The ids of the experiments by their names."""
        found = self._post("experiments/search", {"max_results": 1000})["experiments"]
        return {each["name"]: each["experiment_id"] for each in found}

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        """The runs of an experiment, each with its `info` and its `data`; none where there is no such experiment."""
        known = self.experiments()
        if experiment not in known:
            return []
        body = {"experiment_ids": [known[experiment]], "max_results": 1000}
        found: list[dict[str, Any]] = self._post("runs/search", body).get("runs", [])
        return found

    def run_of(self, experiment: str, job: str) -> dict[str, Any] | None:
        """The one run with this job's tag; None where there is none. Raises ValueError for several."""
        found = [run for run in self.runs(experiment) if tags(run).get("sluice.job") == job]
        if not found:
            return None
        (only,) = found
        return only

    def history(self, run: dict[str, Any], metric: str) -> list[tuple[int, float]]:
        """The steps and values of a metric."""
        params = {"run_id": run["info"]["run_id"], "metric_key": metric}
        found = self._http.get(f"{self.url}/api/2.0/mlflow/metrics/get-history", params=params).json()
        return [(int(each.get("step", 0)), float(each["value"])) for each in found.get("metrics", [])]

    def files(self, run: dict[str, Any]) -> list[str]:
        params = {"run_id": run["info"]["run_id"]}
        found = self._http.get(f"{self.url}/api/2.0/mlflow/artifacts/list", params=params).json()
        return sorted(each["path"] for each in found.get("files", []))

    def model_versions(self, model: str) -> dict[str, dict[str, str]]:
        """The tags of a registered model's versions by their numbers; none where there is no such model."""
        params = {"filter": f"name = '{model}'", "max_results": 1000}
        found = self._http.get(f"{self.url}/api/2.0/mlflow/model-versions/search", params=params).json()
        return {
            each["version"]: {tag["key"]: tag["value"] for tag in each.get("tags", [])}
            for each in found.get("model_versions", [])
        }

    def run_of_version(self, model: str, version: str) -> str:
        """The id of the run that a version of a registered model is from."""
        params = {"name": model, "version": version}
        found = self._http.get(f"{self.url}/api/2.0/mlflow/model-versions/get", params=params).json()
        return str(found["model_version"].get("run_id", ""))

    def aliases(self, model: str) -> dict[str, str]:
        """The numbers of a registered model's versions by their aliases."""
        found = self._http.get(f"{self.url}/api/2.0/mlflow/registered-models/get", params={"name": model}).json()
        return {each["alias"]: each["version"] for each in found["registered_model"].get("aliases", [])}

    def delete(self, run: dict[str, Any]) -> None:
        self._post("runs/delete", {"run_id": run["info"]["run_id"]})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._http.post(f"{self.url}/api/2.0/mlflow/{path}", json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def tags(run: dict[str, Any]) -> dict[str, str]:
    """The tags of a run by their keys."""
    return {each["key"]: each["value"] for each in run["data"].get("tags", [])}


def params(run: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in run["data"].get("params", [])}


def metrics(run: dict[str, Any]) -> dict[str, float]:
    """The last value of each metric."""
    return {each["key"]: float(each["value"]) for each in run["data"].get("metrics", [])}


def install() -> None:
    """Make the environment. Raises CalledProcessError where a package cannot be installed."""
    venv.create(ENVIRONMENT, clear=True, with_pip=False)
    # The pip of this environment installs into the other one, which so needs none of its own.
    command = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--requirement", str(LOCK)], check=True)


if __name__ == "__main__":
    install()
