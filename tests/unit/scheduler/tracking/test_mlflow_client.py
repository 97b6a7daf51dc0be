"""What the answers of a tracking server mean, and what it is sent."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from services.scheduler.tracking.mlflow_client import (
    MLflowClient,
    MLflowError,
    MLflowRefusedError,
    MLflowUnavailableError,
)
from services.scheduler.tracking.settings import TrackingSettings

pytestmark = pytest.mark.anyio

URL = "http://mlflow.example.com:5000/base/"


def client(answer: Any, **settings: Any) -> MLflowClient:
    return MLflowClient(TrackingSettings(mlflow_uri=URL, **settings), transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("status", [401, 403, 408, 429, 502, 503, 504])
async def test_a_server_that_is_away_or_does_not_know_the_credential_is_asked_again(status: int) -> None:
    with pytest.raises(MLflowUnavailableError, match=str(status)):
        await client(lambda _: httpx.Response(status)).experiment("e")


async def test_what_is_not_mlflow_is_asked_again() -> None:
    for answer in (httpx.Response(200, text="<html>"), httpx.Response(404, text="not here"), httpx.Response(301)):
        with pytest.raises(MLflowUnavailableError):
            await client(lambda _, answer=answer: answer).experiment("e")


async def test_a_fault_of_one_request_is_not_a_server_that_is_away() -> None:
    with pytest.raises(MLflowError) as failed:
        await client(lambda _: httpx.Response(500, text="oops")).experiment("e")
    assert type(failed.value) is MLflowError
    refusal = httpx.Response(400, json={"error_code": "INVALID_PARAMETER_VALUE", "message": "no"})
    with pytest.raises(MLflowRefusedError, match="INVALID_PARAMETER_VALUE: no"):
        await client(lambda _: refusal).experiment("e")


async def test_an_experiment_that_somebody_else_makes_meanwhile_is_theirs() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.method == "POST":
            return httpx.Response(400, json={"error_code": "RESOURCE_ALREADY_EXISTS"})
        if len(asked) == 1:
            return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})
        return httpx.Response(200, json={"experiment": {"experiment_id": "7"}})

    assert await client(answer).experiment("e") == "7"
    assert asked[0] == "/base/api/2.0/mlflow/experiments/get-by-name"


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"mlflow_token": "t0ken"}, "Bearer t0ken"),
        ({"mlflow_user": "ann", "mlflow_password": "pass"}, "Basic YW5uOnBhc3M="),
        ({}, None),
    ],
)
async def test_the_credential_goes_with_each_request(settings: dict[str, str], header: str | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers.get("Authorization") == header
        return httpx.Response(200, json={"experiment": {"experiment_id": "7"}})

    assert await client(answer, **settings).experiment("e") == "7"


@pytest.mark.parametrize(
    ("settings", "file", "header"),
    [
        ({}, "mlflow_token_file", "Bearer {0}"),
        ({"mlflow_user": "ann"}, "mlflow_password_file", "Basic {1}"),
    ],
)
async def test_a_credential_in_a_file_is_read_at_each_request(
    settings: dict[str, str], file: str, header: str, tmp_path: Path
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Authorization"])
        return httpx.Response(200, json={"experiment": {"experiment_id": "7"}})

    path = tmp_path / "secret"
    path.write_text("first\n")
    mlflow = client(answer, **settings, **{file: str(path)})
    await mlflow.experiment("e")
    path.write_text("second\n")
    await mlflow.experiment("e")
    path.unlink()
    with pytest.raises(MLflowUnavailableError, match="file of its credential cannot be read"):
        await mlflow.experiment("e")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MLflowUnavailableError, match="file of its credential cannot be read"):
        await mlflow.experiment("e")
    basic = [b64encode(f"ann:{word}".encode()).decode() for word in ("first", "second")]
    assert asked == [header.format("first", basic[0]), header.format("second", basic[1])]


async def test_many_metrics_are_several_requests() -> None:
    sizes: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sizes.append(len(json.loads(request.content).get("metrics", [])))
        return httpx.Response(200, json={})

    many = [{"key": "loss", "value": 1.0, "timestamp": 1, "step": step} for step in range(2_000)]
    await client(answer).log("run", metrics=many)
    assert sizes == [900, 900, 200]


async def test_a_server_whose_files_are_elsewhere_gets_none() -> None:
    answer = {"run": {"info": {"artifact_uri": "s3://bucket/1/run/artifacts"}}}
    assert not await client(lambda _: httpx.Response(200, json=answer)).upload("run", "file", b"x")


@pytest.mark.parametrize(
    "settings",
    [
        {"mlflow_uri": "databricks"},
        {"mlflow_experiment": "of/{job}"},
        {"mlflow_experiment": " "},
        {"mlflow_run_url": "https://x/{id}"},
        {"mlflow_trace_url": "https://x/{trace:>3}"},
        {"mlflow_token": "t", "mlflow_user": "u"},
        {"mlflow_token": "t", "mlflow_token_file": __file__},
        {"mlflow_token_file": __file__, "mlflow_user": "u"},
        {"mlflow_token_file": "/nowhere/token"},
        {"mlflow_user": "u", "mlflow_password": "p", "mlflow_password_file": __file__},
        {"mlflow_password_file": __file__},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TrackingSettings(**settings)  # type: ignore[arg-type]
