"""A graph of KServe, imported by the command line, decides on questions through a real gateway and predictor."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

EXAMPLE = Path("examples/graphs/inference-graph.yaml")

MODEL = """
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Model:
    def load(self, folder: Path) -> None:
        self.label = folder.parent.name

    def predict(self, text: list[str]) -> dict[str, list[str]]:
        doubtful = self.label == "toxicity" and "doubt" in text[0]
        return {"label": ["doubtful" if doubtful else self.label]}
"""


@pytest.fixture(scope="module")
def predictor(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    root = tmp_path_factory.mktemp("repository")
    for model in ("toxicity", "language", "judge", "judge-next"):
        (root / model / "1").mkdir(parents=True)
        (root / model / "1" / "model.py").write_text(MODEL)
    folder = tmp_path_factory.mktemp("predictor")
    with ServiceProcess(
        "services.predictor", folder, nats_url=broker.url, model_repository=root, allow_model_code=True
    ) as process:
        yield process


@pytest.fixture(scope="module")
def gateway_settings(predictor: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    pipelines = tmp_path_factory.mktemp("gateway") / "pipelines.yaml"
    command = [sys.executable, "-m", "sluice", "pipelines", "import", str(EXAMPLE), "-i", "text", "-o", str(pipelines)]
    stages = ("embed", "retrieve", "generate")
    subprocess.run([*command, *(f"--then={stage}" for stage in stages)], check=True)
    return {"pipelines": pipelines}


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}]


@pytest.fixture
async def http(gateway: ServiceProcess, broker: NatsServer) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        Stages(broker.url).running(),
        httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("question", "audience", "calls"),
    [("What?", "public", 1), ("I doubt it.", "public", 2), ("I doubt it.", "staff", 1)],
)
async def test_the_way_of_a_question_is_that_of_the_graph(
    http: httpx.AsyncClient, question: str, audience: str, calls: int
) -> None:
    asked = {"question": question, "pipeline": "moderation", "metadata": {"audience": audience}}
    answer = (await http.post("/v1/query", json=asked)).raise_for_status().json()
    assert answer["answer"] == "Hello world"
    visited = [hop["stage"] for hop in answer["timings"]["stages"]]
    assert visited == [*["predict"] * calls, "embed", "retrieve", "generate"]


async def test_a_question_that_fits_no_case_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/query", json={"question": "What?", "pipeline": "moderation"})
    assert (response.status_code, response.json()["detail"]) == (422, "None of the conditions holds for this request.")


def test_a_file_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(EXAMPLE.read_text().replace("routerType: Splitter", "routerType: Router"))
    command = [sys.executable, "-m", "sluice", "pipelines", "import"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{file}:22:5: routerType is 'Router'")
    done = subprocess.run([*command, str(tmp_path / "missing.yaml")], capture_output=True, text=True)
    assert (done.returncode, "No such file" in done.stderr) == (2, True)
    done = subprocess.run([*command, str(EXAMPLE), "-m", "x"], capture_output=True, text=True)
    assert (done.returncode, "is not URL=NAME" in done.stderr) == (2, True)
