"""Sluice's own stages as models: a real embedder, and a generator that quotes."""

import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_async
from anyio.from_thread import start_blocking_portal

from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL, grpc_address_of
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

TEXTS = ["Interest rates rose.", "The canary sings in the mine."]


@pytest.fixture(scope="module")
def engines(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("embedder")
    stages = Stages(broker.url)
    stages.models = {"generate": MODEL}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(stages.running(("generate",))),
        ServiceProcess("services.embedder", folder, nats_url=broker.url, dtype="float32"),
    ):
        yield


@pytest.fixture
def client(gateway: ServiceProcess, engines: None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
        yield client


def texts(name: str, *data: str) -> dict[str, object]:
    return {"name": name, "datatype": "BYTES", "shape": [len(data)], "data": list(data)}


def infer(client: httpx.Client, model: str, *inputs: dict[str, object], **members: object) -> dict[str, object]:
    response = client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **members})
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    return output


def test_each_describes_itself_and_is_ready(client: httpx.Client) -> None:
    for model, inputs in (("embed", ["text"]), ("rerank", ["query", "documents"]), ("generate", ["text_input"])):
        described = client.get(f"/v2/models/{model}").raise_for_status().json()
        assert ([each["name"] for each in described["inputs"]], described["versions"]) == (inputs, ["default"])
        assert client.get(f"/v2/models/{model}/versions/default/ready").status_code == 200
        assert client.get(f"/v2/models/{model}/versions/other/ready").status_code == 404


def test_embed_gives_the_vectors_of_the_embeddings_endpoint(client: httpx.Client) -> None:
    (model,) = (each["id"] for each in client.get("/v1/models").json()["data"] if each["sluice"]["stage"] == "embed")
    expected = client.post("/v1/embeddings", json={"model": model, "input": TEXTS}).raise_for_status().json()["data"]
    made = infer(client, "embed", texts("text", *TEXTS))
    assert made["shape"] == [2, 384]
    assert made["data"] == pytest.approx([number for each in expected for number in each["embedding"]], abs=1e-5)
    binary = client.post(
        "/v2/models/embed/infer",
        json={"inputs": [texts("text", TEXTS[0])], "parameters": {"binary_data_output": True}},
    )
    length = int(binary.headers["Inference-Header-Content-Length"])
    assert struct.unpack("<384f", binary.content[length:]) == pytest.approx(made["data"][:384], abs=1e-5)


def test_rerank_gives_a_score_for_each_document_in_their_order(client: httpx.Client) -> None:
    made = infer(client, "rerank", texts("query", "What sings in the mine?"), texts("documents", *TEXTS))
    first, second = made["data"]
    assert 0 <= first < second <= 1


def test_generate_goes_on_from_a_text(client: httpx.Client) -> None:
    made = infer(client, "generate", texts("text_input", "Say hello."), parameters={"max_tokens": 5})
    assert made["data"] == ["Hello world"]


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("embed", [texts("words", "a")], "takes text"),
        ("embed", [texts("text")], "takes 1 to 2,048 elements"),
        ("embed", [{"name": "text", "datatype": "FP32", "shape": [1], "data": [1]}], "elements of BYTES"),
        ("generate", [texts("text_input", "a", "b")], "takes one text, not 2"),
    ],
)
def test_what_does_not_fit_is_refused(
    client: httpx.Client, model: str, inputs: list[dict[str, object]], said: str
) -> None:
    response = client.post(f"/v2/models/{model}/infer", json={"inputs": inputs})
    assert (response.status_code, said in response.json()["error"]) == (400, True), response.text


def test_they_are_not_loaded_or_unloaded(client: httpx.Client) -> None:
    response = client.post("/v2/repository/models/embed/load")
    assert (response.status_code, "is Sluice's own" in response.json()["error"]) == (400, True)


def text_tensor(name: str, *data: str) -> triton.InferInput:
    given = triton.InferInput(name, [len(data)], "BYTES")
    given.set_data_from_numpy(np.array([text.encode() for text in data], np.object_))
    return given


def test_they_are_models_of_grpc_too(gateway: ServiceProcess, engines: None) -> None:
    with triton.InferenceServerClient(grpc_address_of(gateway)) as client:
        assert client.is_model_ready("embed")
        embedded = client.infer("embed", [text_tensor("text", *TEXTS)])
        assert embedded.as_numpy("embedding").shape == (2, 384)
        written = client.infer("generate", [text_tensor("text_input", "Say hello.")], parameters={"max_tokens": 5})
        assert list(written.as_numpy("text_output")) == [b"Hello world"]


async def test_generate_streams_its_text_by_grpc(gateway: ServiceProcess, engines: None) -> None:
    async def asked() -> AsyncIterator[dict[str, Any]]:
        inputs = [text_tensor("text_input", "Say hello.")]
        told = {"triton_enable_empty_final_response": True}
        plain: dict[str, Any] = {"model_name": "generate", "inputs": inputs}
        yield {**plain, "request_id": "1", "parameters": {"stream": True, **told}}
        yield {**plain, "request_id": "2"}
        yield {**plain, "request_id": "3", "parameters": {"stream": True, "max_tokens": -1}}
        yield {**plain, "request_id": "4", "parameters": told}

    pieces: dict[str, list[bytes]] = {}
    ends: dict[str, list[bool]] = {}
    async with triton_async.InferenceServerClient(grpc_address_of(gateway)) as client:
        async for result, error in client.stream_infer(asked()):
            if error is not None:
                assert "max_tokens" in error.message()
                continue
            response = result.get_response()
            pieces.setdefault(response.id, []).extend([] if not response.outputs else result.as_numpy("text_output"))
            if "triton_final_response" in response.parameters:
                ends.setdefault(response.id, []).append(response.parameters["triton_final_response"].bool_param)
    assert b"".join(pieces["1"]) == b"Hello world"
    assert (ends["1"][-1], any(ends["1"][:-1]), len(ends["1"])) == (True, False, len(pieces["1"]) + 1)
    assert (pieces["2"], pieces["4"], ends["4"]) == ([b"Hello world"], [b"Hello world"], [True])
    assert sorted(pieces) == ["1", "2", "4"]
    assert "2" not in ends
