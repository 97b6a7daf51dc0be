"""Triton's and KServe's own clients, unmodified, over gRPC against models of each framework."""

import asyncio
import os
import queue
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_async
from tritonclient.utils import InferenceServerException

from tests.harness.paths import ROOT
from tests.harness.trained_models import ROWS, TRAINERS
from tests.integration.gateway.inference.conftest import ECHOED


@pytest.fixture
def client(grpc_address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(grpc_address) as client:
        yield client


def tensor(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def ones(rows: int = 1) -> list[triton.InferInput]:
    return [tensor("x", np.ones((rows, 3), np.float32), "FP32")]


def test_the_server_describes_itself(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert (metadata.name, "model_repository" in metadata.extensions) == ("sluice", True)


@pytest.mark.parametrize("framework", sorted(TRAINERS))
def test_a_model_of_each_framework_infers(client: triton.InferenceServerClient, framework: str) -> None:
    assert client.is_model_ready(framework)
    metadata = client.get_model_metadata(framework)
    assert [each.name for each in metadata.inputs] == ["input"]
    wanted = [triton.InferRequestedOutput("predict")]
    answered = client.infer(framework, [tensor("input", ROWS[:5], "FP32")], outputs=wanted, request_id="7")
    assert len(answered.as_numpy("predict")) == 5
    assert answered.get_response().id == "7"
    alone = client.infer(framework, [tensor("input", ROWS[2:3], "FP32")], outputs=wanted)
    np.testing.assert_allclose(alone.as_numpy("predict"), answered.as_numpy("predict")[2:3], rtol=1e-5)


ELEMENTS = {
    "BOOL": np.array([[True, False]]),
    "FP16": np.array([[1.5, -2.25]], np.float16),
    "FP32": np.array([[np.nan, -np.inf]], np.float32),
    "FP64": np.array([[1e300, -2.25]], np.float64),
    "BYTES": np.array([[b"blau", "grün".encode()]], np.object_),
    **{f"INT{bits}": np.array([[-(2 ** (bits - 1)), 1]], f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.array([[2**bits - 1, 1]], f"uint{bits}") for bits in (8, 16, 32, 64)},
}


def test_every_datatype_comes_back_as_it_went(client: triton.InferenceServerClient) -> None:
    answered = client.infer("echo", [tensor(name, ELEMENTS[name], name) for name in ECHOED])
    for name in ECHOED:
        np.testing.assert_array_equal(answered.as_numpy(f"{name}_out"), ELEMENTS[name])


def test_bfloat16_goes_and_comes(client: triton.InferenceServerClient) -> None:
    # The client takes and gives float32, and sends the upper half of each: these have nothing in the lower one.
    numbers = np.array([1.0, -2.5, 2.0**100], np.float32)
    came = client.infer("bfloat", [tensor("x", numbers, "BF16")]).as_numpy("y")
    np.testing.assert_array_equal(came, numbers)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_is_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    answered = client.infer("doubler", ones(400), compression_algorithm=algorithm)
    np.testing.assert_array_equal(answered.as_numpy("y"), np.full((400, 3), 3.0))


def test_versions_stand_side_by_side(client: triton.InferenceServerClient) -> None:
    assert list(client.get_model_metadata("doubler").versions) == ["2", "1"]
    factors = [client.infer("doubler", ones(), model_version=each).as_numpy("y")[0, 0] for each in ("1", "2", "")]
    assert factors == [2.0, 3.0, 3.0]


def test_the_repository_is_listed_loaded_and_unloaded(client: triton.InferenceServerClient) -> None:
    client.unload_model("onnx")
    listed = {(each.name, each.version): each for each in client.get_model_repository_index().models}
    assert listed["onnx", "1"].state == "READY"
    client.load_model("onnx")
    assert client.is_model_ready("onnx", "1")
    with pytest.raises(InferenceServerException, match="its configuration cannot be sent"):
        client.load_model("onnx", config='{"max_batch_size": 4}')


def test_a_model_that_does_not_load_says_why(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="cannot be loaded: InvalidProtobuf") as caught:
        client.load_model("broken")
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert not client.is_model_ready("broken")
    assert not client.is_model_ready("nobody")
    listed = {each.name: each for each in client.get_model_repository_index().models}
    assert (listed["broken"].state, "InvalidProtobuf" in listed["broken"].reason) == ("UNAVAILABLE", True)


@pytest.mark.parametrize(
    ("model", "version", "given", "status", "said"),
    [
        ("nobody", "", ones(), "NOT_FOUND", "There is no model 'nobody'"),
        ("private", "", ones(), "NOT_FOUND", "There is no model 'private'"),
        ("doubler", "9", ones(), "NOT_FOUND", "no version '9'"),
        ("doubler", "", [tensor("x", np.ones((1, 3), np.int32), "INT32")], "INVALID_ARGUMENT", "takes FP32"),
        ("doubler", "", [*ones(), *ones()], "INVALID_ARGUMENT", "comes twice"),
        ("doubler", "", ones(2**20), "RESOURCE_EXHAUSTED", "SLUICE_MAX_TENSOR_BYTES"),
        ("large", "", [tensor("x", np.arange(20_000), "INT64")], "RESOURCE_EXHAUSTED", "have 5,120,000 bytes"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    client: triton.InferenceServerClient,
    model: str,
    version: str,
    given: list[triton.InferInput],
    status: str,
    said: str,
) -> None:
    with pytest.raises(InferenceServerException, match=said) as caught:
        client.infer(model, given, model_version=version)
    assert caught.value.status() == f"StatusCode.{status}"


def test_a_model_that_fails_says_so(client: triton.InferenceServerClient) -> None:
    given = [tensor("x", np.ones(1, np.float32), "BF16")]
    with pytest.raises(InferenceServerException, match="failed: ValueError: as it was asked to") as caught:
        client.infer("bfloat", given, parameters={"fail": True})
    assert caught.value.status() == "StatusCode.INTERNAL"


def test_large_tensors_travel_beside_the_message(client: triton.InferenceServerClient) -> None:
    answered = client.infer("large", [tensor("x", np.arange(15_000, dtype=np.int64), "INT64")])
    expected = np.arange(15_000 * 64, dtype=np.float32).reshape(-1, 64)
    np.testing.assert_array_equal(answered.as_numpy("y"), expected)


async def test_fifty_clients_are_answered_at_once(grpc_address: str) -> None:
    async def ask(number: int) -> None:
        async with triton_async.InferenceServerClient(grpc_address) as client:
            for factor in (1, 2):
                array = np.full((number + 1, 3), number * factor, np.float32)
                answered = await client.infer("doubler", [tensor("x", array, "FP32")], request_id=str(number))
                np.testing.assert_array_equal(answered.as_numpy("y"), array * 3)
                assert answered.get_response().id == str(number)

    await asyncio.gather(*map(ask, range(50)))


def test_a_stream_answers_its_requests_in_their_order(client: triton.InferenceServerClient) -> None:
    came: queue.Queue[tuple[triton.InferResult | None, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: came.put((result, error)))
    for number, model in enumerate(("doubler", "nobody", "onnx", "doubler")):
        given = [tensor("input", ROWS[:1], "FP32")] if model == "onnx" else ones(number + 1)
        client.async_stream_infer(model, given, request_id=str(number))
    answers = [came.get(timeout=60) for _ in range(4)]
    client.stop_stream()
    assert [error is None for _, error in answers] == [True, False, True, True]
    assert "There is no model 'nobody'" in answers[1][1].message()
    assert [result.get_response().id for result, _ in answers if result is not None] == ["0", "2", "3"]
    np.testing.assert_array_equal(answers[3][0].as_numpy("y"), np.full((4, 3), 3.0))


KSERVE = os.environ.get("SLUICE_KSERVE_PYTHON", "")


@pytest.mark.skipif(not KSERVE, reason="SLUICE_KSERVE_PYTHON names no interpreter that has kserve")
def test_kserve_s_client_is_answered(grpc_address: str) -> None:
    program = ROOT / "tests/harness/programs/kserve_grpc_client.py"
    ended = subprocess.run([KSERVE, program, grpc_address], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
