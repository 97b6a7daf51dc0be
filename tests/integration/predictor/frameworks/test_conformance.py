"""What every framework keeps to, with a model that its own library has just trained."""

import asyncio
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.predictor.frameworks.base import Framework, FrameworkOptions, LoadedModel, ModelFiles, NotLoadableError
from services.predictor.frameworks.registry import FRAMEWORKS, find_file
from services.predictor.serving.arrays import to_array, to_tensor
from services.predictor.serving.served_model import ModelLimits, ServedModel
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferRequest, RequestedOutput
from tests.harness.trained_models import COLUMNS, ROWS, TRAINERS, Predict

pytestmark = pytest.mark.anyio

LANE = Lane.INTERACTIVE
ALLOWED = FrameworkOptions(threads=1, allow_code=True)


@dataclass(frozen=True, kw_only=True)
class Trained:
    framework: Framework
    files: ModelFiles
    predict: Predict


@pytest.fixture(scope="module", params=sorted(TRAINERS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model on disk, of each framework in turn."""
    folder = tmp_path_factory.mktemp(request.param)
    predict = TRAINERS[request.param](folder)
    framework, file = find_file(folder, None, "")
    assert framework is FRAMEWORKS[request.param]
    files = ModelFiles(name="m", version="1", folder=folder, file=file, batches=True)
    framework.prepare()
    return Trained(framework=framework, files=files, predict=predict)


@pytest.fixture
def model(trained: Trained) -> Iterator[LoadedModel]:
    loaded = trained.framework.load(trained.files, ALLOWED)
    yield loaded
    loaded.close()


def test_it_predicts_what_its_library_does(trained: Trained, model: LoadedModel) -> None:
    made = model.predict({"input": ROWS}, ("predict",), {})["predict"]
    np.testing.assert_allclose(made, trained.predict(ROWS), rtol=1e-5, atol=1e-6)


def test_a_row_alone_has_the_result_that_it_has_among_others(model: LoadedModel) -> None:
    assert model.signature.rows
    all_rows = model.predict({"input": ROWS}, ("predict",), {})["predict"]
    alone = [model.predict({"input": ROWS[i : i + 1]}, ("predict",), {})["predict"] for i in range(5)]
    np.testing.assert_allclose(np.concatenate(alone), all_rows[:5], rtol=1e-5, atol=1e-6)


def test_its_signature_names_the_tensors(model: LoadedModel) -> None:
    (given,) = model.signature.inputs
    assert given.name == "input"
    assert given.datatype in (Datatype.FP32, Datatype.FP64)
    assert given.shape in ((-1, COLUMNS), ())
    names = [spec.name for spec in model.signature.outputs]
    assert names == [] or "predict" in names
    assert set(model.signature.default_outputs or ()) <= set(names)


def test_a_result_stays_as_it_was_after_the_next(model: LoadedModel) -> None:
    first = model.predict({"input": ROWS[:2]}, ("predict",), {})["predict"]
    kept = first.copy()
    model.predict({"input": ROWS[10:12]}, ("predict",), {})
    np.testing.assert_array_equal(first, kept)


def test_copies_of_a_model_work_in_threads_at_once(trained: Trained) -> None:
    models = [trained.framework.load(trained.files, ALLOWED) for _ in range(3)]
    expected = trained.predict(ROWS)
    with ThreadPoolExecutor(3) as threads:
        made = threads.map(
            lambda one: [one.predict({"input": ROWS}, ("predict",), {})["predict"] for _ in range(5)], models
        )
        for result in (each for of_one in made for each in of_one):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    for one in models:
        one.close()


async def test_requests_that_do_not_fit_fail_alone(trained: Trained, model: LoadedModel) -> None:
    with ThreadPoolExecutor(1) as threads:
        served = ServedModel("m", model, ModelLimits(batch_rows=32, waiting=100), threads)
        async with served.running(), asyncio.TaskGroup() as tasks:
            bad = [tasks.create_task(failure(served.infer(request(np.zeros((2, COLUMNS + 1))), LANE))) for _ in "ab"]
            good = [tasks.create_task(served.infer(request(ROWS[i : i + 2]), LANE)) for i in range(0, 40, 2)]
        for task in bad:
            own = trained.framework.name == "python"  # what its program raises is its own
            assert task.result().kind is (ProblemType.MODEL_FAILED if own else ProblemType.INVALID_REQUEST)
        made = np.concatenate([to_array(task.result()[0]) for task in good])
        np.testing.assert_allclose(made, trained.predict(ROWS[:40]), rtol=1e-5, atol=1e-6)


async def failure(work: Awaitable[object]) -> Problem:
    with pytest.raises(Problem) as raised:
        await work
    return raised.value


def request(rows: npt.NDArray[Any]) -> InferRequest:
    tensor = to_tensor("input", rows.astype(np.float32))
    return InferRequest(inputs=(tensor,), outputs=(RequestedOutput(name="predict"),))


def test_a_file_that_is_broken_is_an_error(trained: Trained, tmp_path: Path) -> None:
    broken = tmp_path / trained.files.file.name
    broken.write_bytes(b"this is no model\n")
    files = ModelFiles(name="m", version="1", folder=tmp_path, file=broken)
    with pytest.raises(Exception, match=r"."):
        trained.framework.load(files, ALLOWED)


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_a_folder_without_its_file_says_what_is_looked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotLoadableError, match=FRAMEWORKS[name].files[0].replace("*", r"\*")):
        find_file(tmp_path, FRAMEWORKS[name], "")
