"""/v2 and :predict as bytes: what clients of any language send and get."""

import json
import struct
from pathlib import Path

import httpx
import pytest

from tests.harness.models import write_doubler
from tests.harness.supervisor import until

ONES = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}


def infer(client: httpx.Client, model: str, **body: object) -> httpx.Response:
    return client.post(f"/v2/models/{model}/infer", json=body)


def test_errors_are_as_the_protocol_says(client: httpx.Client) -> None:
    response = infer(client, "nobody", inputs=[ONES])
    assert response.status_code == 404
    body = response.json()
    assert body["error"].startswith("There is no model 'nobody'")
    assert body["sluice"]["type"] == "urn:sluice:problem:model-not-found"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [2, 3]}, "has 3 elements, and the shape [2, 3] has 6"),
        ({"shape": [3]}, "has the shape [3]; the model takes [-1, 3]"),
        ({"data": [1, "2", 3]}, "has an element that is not of FP32: '2'"),
        ({"data": [1, 1e39, 1]}, "has an element that is not of FP32"),
        ({"data": [[1], 2, 3]}, "has lists beside elements"),
        ({"data": None}, "has neither `data` nor"),
        ({"datatype": "BF16"}, "BF16 has no form in JSON"),
        ({"datatype": "FP31"}, "datatype"),
        ({"name": "z"}, "The model has no input 'z'. Its inputs are: x"),
        ({"shape": [-1, 3]}, "greater than or equal to 0"),
        ({"parameters": {"binary_data_size": 12}, "data": None}, "0 bytes are left behind the JSON"),
        ({"parameters": {"shared_memory_region": "r"}}, "not served here"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(client: httpx.Client, change: dict[str, object], said: str) -> None:
    response = infer(client, "doubler", inputs=[ONES | change])
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]


def test_inputs_are_counted(client: httpx.Client) -> None:
    assert "comes twice" in infer(client, "doubler", inputs=[ONES, ONES]).json()["error"]
    assert "no output 'z'" in infer(client, "doubler", inputs=[ONES], outputs=[{"name": "z"}]).json()["error"]
    assert infer(client, "doubler", inputs=[]).status_code == 400


def test_a_body_may_be_binary_in_part(client: httpx.Client) -> None:
    head = json.dumps(
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = head + struct.pack("<3f", 1, 2, 3)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = client.post("/v2/models/doubler/infer", content=body, headers=headers).raise_for_status()
    length = int(response.headers["Inference-Header-Content-Length"])
    answered = json.loads(response.content[:length])
    assert answered["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert struct.unpack("<3f", response.content[length:]) == (3.0, 6.0, 9.0)
    for wrong in (str(len(body) + 1), "-1", "x"):
        refused = client.post(
            "/v2/models/doubler/infer", content=body, headers={"Inference-Header-Content-Length": wrong}
        )
        assert refused.status_code == 400
    trailing = client.post("/v2/models/doubler/infer", content=body + b"!", headers=headers)
    assert "1 bytes behind the JSON that are of no input" in trailing.json()["error"]


def test_numbers_that_json_does_not_have_are_null(client: httpx.Client) -> None:
    head = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}]}
    ).encode()
    body = head + struct.pack("<3f", float("nan"), float("inf"), 1)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = client.post("/v2/models/doubler/infer", content=body, headers=headers).raise_for_status()
    assert response.json()["outputs"][0]["data"] == [None, None, 3.0]


def test_tensors_that_are_too_large_are_refused(client: httpx.Client) -> None:
    rows = 2**20
    data = b"\0" * (rows * 12)
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [rows, 3], "parameters": {"binary_data_size": len(data)}}
            ]
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = client.post("/v2/models/doubler/infer", content=head + data, headers=headers)
    assert response.status_code == 413
    assert "SLUICE_MAX_TENSOR_BYTES" in response.json()["error"]
    rows = list(range(20_000))
    response = infer(client, "large", inputs=[{"name": "x", "datatype": "INT64", "shape": [20_000], "data": rows}])
    assert response.status_code == 413
    assert "The outputs of the model 'large' have 5,120,000 bytes" in response.json()["error"]


def test_a_model_that_fails_fails_its_request_alone(client: httpx.Client) -> None:
    head = json.dumps(
        {
            "inputs": [{"name": "x", "datatype": "BF16", "shape": [1], "parameters": {"binary_data_size": 2}}],
            "parameters": {"fail": True},
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = client.post("/v2/models/bfloat/infer", content=head + b"\0\0", headers=headers)
    assert response.status_code == 500
    assert response.json()["error"].endswith("failed: ValueError: as it was asked to")


def test_a_model_is_seen_by_its_tenants_alone(client: httpx.Client) -> None:
    assert infer(client, "private", inputs=[ONES]).status_code == 404
    assert "private" not in [each["name"] for each in client.post("/v2/repository/index").json()]


def test_a_model_that_cannot_be_loaded_is_not_ready(client: httpx.Client) -> None:
    response = infer(client, "broken", inputs=[ONES])
    assert response.status_code == 503
    assert "The model 'broken', version 1, cannot be loaded" in response.json()["error"]
    ready = client.get("/v2/models/broken/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    names = [each["name"] for each in client.post("/v2/repository/index", json={"ready": True}).json()]
    assert "broken" not in names
    assert "doubler" in names


def test_version_1_of_the_protocol(client: httpx.Client) -> None:
    answered = client.post("/v1/models/doubler:predict", json={"instances": [[1, 2, 3], [4, 5, 6]]}).raise_for_status()
    assert answered.json() == {"predictions": [[3.0, 6.0, 9.0], [12.0, 15.0, 18.0]]}
    by_name = client.post("/v1/models/doubler:predict", json={"instances": [{"x": [1, 2, 3]}]}).raise_for_status()
    assert by_name.json() == {"predictions": [[3.0, 6.0, 9.0]]}
    refused = client.post("/v1/models/doubler:predict", json={"instances": [[1, 2]]})
    assert (refused.status_code, "takes [-1, 3]" in refused.json()["error"]) == (400, True)
    assert client.post("/v1/models/nobody:predict", json={"instances": [[1]]}).status_code == 404


def test_a_repository_is_followed(client: httpx.Client, repository: Path) -> None:
    write_doubler(repository / "arriving" / "1")
    until(lambda: client.get("/v2/models/arriving/ready").status_code == 200)
    assert infer(client, "arriving", inputs=[ONES]).json()["outputs"][0]["data"] == [2.0, 2.0, 2.0]
    write_doubler(repository / "arriving" / "2", factor=5.0)
    until(lambda: infer(client, "arriving", inputs=[ONES]).json()["model_version"] == "2")
    (repository / "arriving" / "2" / "model.onnx").write_bytes(b"this is no model")
    # The version before answers in its place.
    until(lambda: infer(client, "arriving", inputs=[ONES]).json().get("model_version") == "1")
    for path in sorted((repository / "arriving").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (repository / "arriving").rmdir()
    until(lambda: client.get("/v2/models/arriving/ready").status_code == 404)
