"""The clients of Triton and of KServe for REST, as they are, against models of every framework.

KServe's pins versions that Sluice's own packages do not go with, so it runs in an environment of its own, whose
interpreter SLUICE_KSERVE_PYTHON names: `python -m venv E; E/bin/pip install kserve`.
"""

import os
import subprocess
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.harness.paths import ROOT
from tests.harness.processes import ServiceProcess
from tests.harness.trained_models import ROWS, TRAINERS
from tests.integration.gateway.inference.conftest import ECHOED


@pytest.fixture
def client(gateway: ServiceProcess, predictor: ServiceProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(gateway.url.removeprefix("http://"), network_timeout=60) as client:
        yield client


def tensor(name: str, array: np.ndarray, datatype: str, *, binary: bool) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def test_the_server_describes_itself(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "sluice"
    assert "binary_tensor_data" in metadata["extensions"]


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("framework", sorted(TRAINERS))
def test_a_model_of_each_framework_infers(client: triton.InferenceServerClient, framework: str, binary: bool) -> None:
    assert client.is_model_ready(framework)
    metadata = client.get_model_metadata(framework)
    assert [each["name"] for each in metadata["inputs"]] == ["input"]
    wanted = [triton.InferRequestedOutput("predict", binary_data=binary)]
    given = [tensor("input", ROWS[:5], "FP32", binary=binary)]
    answered = client.infer(framework, given, outputs=wanted, request_id="7")
    assert len(answered.as_numpy("predict")) == 5
    assert answered.get_response()["id"] == "7"
    alone = client.infer(framework, [tensor("input", ROWS[2:3], "FP32", binary=binary)], outputs=wanted)
    np.testing.assert_allclose(alone.as_numpy("predict"), answered.as_numpy("predict")[2:3], rtol=1e-5)


ELEMENTS = {
    "BOOL": np.array([[True, False]]),
    "FP16": np.array([[1.5, -2.25]], np.float16),
    "FP32": np.array([[1.5, -2.25]], np.float32),
    "FP64": np.array([[1e300, -2.25]], np.float64),
    "BYTES": np.array([["blau", "grün"]], np.object_),
    **{f"INT{bits}": np.array([[-(2 ** (bits - 1)), 1]], f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.array([[2**bits - 1, 1]], f"uint{bits}") for bits in (8, 16, 32, 64)},
}


@pytest.mark.parametrize("binary_in", [False, True], ids=["json-in", "binary-in"])
@pytest.mark.parametrize("binary_out", [False, True], ids=["json-out", "binary-out"])
def test_every_datatype_comes_back_as_it_went(
    client: triton.InferenceServerClient, binary_in: bool, binary_out: bool
) -> None:
    # The client itself sends FP16 only in binary form.
    inputs = [tensor(name, ELEMENTS[name], name, binary=binary_in or name == "FP16") for name in ECHOED]
    outputs = [triton.InferRequestedOutput(f"{name}_out", binary_data=binary_out or name == "FP16") for name in ECHOED]
    answered = client.infer("echo", inputs, outputs=outputs)
    for name in ECHOED:
        came = answered.as_numpy(f"{name}_out")
        if name == "BYTES":
            came = np.array([each if isinstance(each, str) else each.decode() for each in came.reshape(-1)]).reshape(
                1, 2
            )
        np.testing.assert_array_equal(came, ELEMENTS[name])


def test_bfloat16_goes_and_comes_in_binary_form(client: triton.InferenceServerClient) -> None:
    # The client takes and gives float32, and sends the upper half of each: these have nothing in the lower one.
    numbers = np.array([1.0, -2.5, 2.0**100], np.float32)
    given = [tensor("x", numbers, "BF16", binary=True)]
    came = client.infer("bfloat", given, outputs=[triton.InferRequestedOutput("y", binary_data=True)]).as_numpy("y")
    np.testing.assert_array_equal(came, numbers)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_is_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    given = [tensor("x", np.ones((4, 3), np.float32), "FP32", binary=True)]
    answered = client.infer("doubler", given, request_compression_algorithm=algorithm)
    np.testing.assert_array_equal(answered.as_numpy("y"), np.full((4, 3), 3.0))


def test_versions_stand_side_by_side(client: triton.InferenceServerClient) -> None:
    assert client.get_model_metadata("doubler")["versions"] == ["2", "1"]
    given = [tensor("x", np.ones((1, 3), np.float32), "FP32", binary=True)]
    factors = [client.infer("doubler", given, model_version=each).as_numpy("y")[0, 0] for each in ("1", "2", "")]
    assert factors == [2.0, 3.0, 3.0]


def test_the_repository_is_listed_loaded_and_unloaded(client: triton.InferenceServerClient) -> None:
    client.unload_model("onnx")
    listed = {(each["name"], each["version"]): each for each in client.get_model_repository_index()}
    assert listed["onnx", "1"]["state"] == "READY"
    client.load_model("onnx")
    assert client.is_model_ready("onnx", "1")
    with pytest.raises(InferenceServerException, match="its configuration cannot be sent"):
        client.load_model("onnx", config='{"max_batch_size": 4}')


def test_a_model_that_does_not_load_says_why(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="cannot be loaded: InvalidProtobuf"):
        client.load_model("broken")
    assert not client.is_model_ready("broken")
    listed = {each["name"]: each for each in client.get_model_repository_index()}
    assert listed["broken"]["state"] == "UNAVAILABLE"
    assert "InvalidProtobuf" in listed["broken"]["reason"]


def test_what_is_wrong_with_a_request_is_said(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="There is no model 'nobody'"):
        client.infer("nobody", [tensor("x", np.ones((1, 3), np.float32), "FP32", binary=True)])
    with pytest.raises(InferenceServerException, match="takes FP32"):
        client.infer("doubler", [tensor("x", np.ones((1, 3), np.int32), "INT32", binary=True)])
    with pytest.raises(InferenceServerException, match="no version '9'"):
        client.infer("doubler", [tensor("x", np.ones((1, 3), np.float32), "FP32", binary=True)], model_version="9")


def test_large_tensors_travel_beside_the_message(client: triton.InferenceServerClient) -> None:
    rows = np.arange(15_000, dtype=np.int64)
    answered = client.infer("large", [tensor("x", rows, "INT64", binary=True)])
    expected = np.arange(15_000 * 64, dtype=np.float32).reshape(-1, 64)
    np.testing.assert_array_equal(answered.as_numpy("y"), expected)
    assert (
        len(client.infer("doubler", [tensor("x", np.ones((90_000, 3), np.float32), "FP32", binary=True)]).as_numpy("y"))
        == 90_000
    )


KSERVE = os.environ.get("SLUICE_KSERVE_PYTHON", "")


@pytest.mark.skipif(not KSERVE, reason="SLUICE_KSERVE_PYTHON names no interpreter that has kserve")
def test_kserve_s_client_is_answered(gateway: ServiceProcess, predictor: ServiceProcess) -> None:
    program = ROOT / "tests/harness/programs/kserve_client.py"
    ended = subprocess.run([KSERVE, program, gateway.url], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr


def test_inferences_are_counted_by_model_also_by_the_names_of_kserve(
    client: triton.InferenceServerClient, predictor: ServiceProcess
) -> None:
    client.infer("doubler", [tensor("x", np.ones((1, 3), np.float32), "FP32", binary=True)], model_version="1")
    with pytest.raises(InferenceServerException):
        client.infer("doubler", [tensor("x", np.ones((1, 2), np.float32), "FP32", binary=True)], model_version="1")
    shown = httpx.get(f"{predictor.url}/metrics", trust_env=False, timeout=10).text
    for time in ("preprocess", "predict", "postprocess"):
        assert f'request_{time}_seconds_count{{model_name="doubler"}}' in shown
    for outcome in ("answered", "failed"):
        assert f'sluice_predictor_inferences_total{{model="doubler",outcome="{outcome}",version="1"}}' in shown
