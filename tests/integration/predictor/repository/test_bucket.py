"""A model repository in a bucket, of an S3-speaking server over HTTP."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from obstore.exceptions import BaseError

from services.predictor.repository import bucket
from services.predictor.repository.bucket import BucketCopy
from tests.harness.broker import NatsServer
from tests.harness.fake_s3 import FakeS3, serving_s3
from tests.harness.gateways import running_gateway
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

URL = "s3://models/live"
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with serving_s3() as fake:
        fake.buckets["models"] = {}
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT": fake.url,
            "AWS_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def put(s3: FakeS3, model: str, text: str, path: str = "1/model.onnx") -> None:
    s3.buckets["models"][f"live/{model}/{path}"] = text.encode()


def read(folder: Path, model: str, path: str = "1/model.onnx") -> str:
    return (folder / model / path).read_text()


def models(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}


def copy_of(folder: Path) -> BucketCopy:
    return BucketCopy(URL, folder, seconds=60)


def test_the_copy_is_what_is_in_the_bucket_and_follows_it(s3: FakeS3, folder: Path) -> None:
    put(s3, "one", "first")
    put(s3, "two", "second")
    put(s3, "two", "third", "2/model.onnx")
    copy = copy_of(folder)
    copy.copy()
    assert models(folder) == {"one", "two"}
    assert (read(folder, "one"), read(folder, "two", "2/model.onnx")) == ("first", "third")
    put(s3, "one", "changed")
    del s3.buckets["models"]["live/two/1/model.onnx"], s3.buckets["models"]["live/two/2/model.onnx"]
    copy.copy()
    assert models(folder) == {"one"}
    assert read(folder, "one") == "changed"


def test_only_what_has_changed_is_read(s3: FakeS3, folder: Path) -> None:
    put(s3, "one", "first")
    put(s3, "two", "second")
    copy_of(folder).copy()
    s3.loads.clear()
    put(s3, "two", "changed")
    copy_of(folder).copy()  # as after a restart
    assert s3.loads == ["live/two/1/model.onnx"]


def test_files_that_were_replaced_stay_for_one_more_look(s3: FakeS3, folder: Path) -> None:
    put(s3, "one", "first")
    copy = copy_of(folder)
    copy.copy()
    before = (folder / "one").resolve()
    put(s3, "one", "changed")
    copy.copy()
    assert (before / "1" / "model.onnx").read_text() == "first"
    copy.copy()
    assert not before.exists()
    assert read(folder, "one") == "changed"


@pytest.mark.parametrize("key", ["live/.hidden/1/model.onnx", "live/a/.hidden", "live/file", "live/a b/1/model.onnx"])
def test_what_is_of_no_model_is_left_out(s3: FakeS3, folder: Path, key: str) -> None:
    put(s3, "one", "first")
    s3.buckets["models"][key] = b"x"
    copy_of(folder).copy()
    assert models(folder) == {"one"}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


@pytest.mark.parametrize("key", ["live/../outside/1/model.onnx", "live/a/../../outside"])
def test_a_path_that_leads_elsewhere_is_never_written(s3: FakeS3, folder: Path, key: str) -> None:
    put(s3, "one", "first")
    s3.buckets["models"][key] = b"x"
    with pytest.raises(BaseError, match="invalid path"):
        copy_of(folder).copy()
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def test_a_model_that_changes_while_it_is_read_stays_as_it_was(
    s3: FakeS3, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(s3, "one", "first")
    put(s3, "two", "second")
    copy = copy_of(folder)
    copy.copy()
    put(s3, "one", "changed")
    put(s3, "two", "changed")
    etag = s3.etag
    monkeypatch.setattr(
        s3, "etag", lambda bucket, key: "listed" if "one" in key and not s3.loads else etag(bucket, key)
    )
    s3.loads.clear()
    with caplog.at_level(logging.WARNING):
        copy.copy()
    assert "one/1/model.onnx changed while it was read" in caplog.text
    assert (read(folder, "one"), read(folder, "two")) == ("first", "changed")
    copy.copy()
    assert read(folder, "one") == "changed"


async def test_without_the_bucket_the_copy_from_before_is_served(s3: FakeS3, folder: Path) -> None:
    put(s3, "one", "first")
    async with copy_of(folder).running():
        pass
    del s3.buckets["models"]
    async with copy_of(folder).running() as served:
        assert read(served, "one") == "first"
    with pytest.raises(ConnectionError, match="cannot read the model repository s3://models/live"):
        async with copy_of(folder.parent / "empty").running():
            pass


def test_a_model_that_is_being_uploaded_is_copied_once_two_looks_find_it_the_same(
    s3: FakeS3, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, "one", "first")
    monkeypatch.setattr(bucket, "SETTLED_SECONDS", 10.0**12)
    copy = copy_of(folder)
    copy.copy()
    put(s3, "one", "second", "1/labels.txt")
    copy.copy()
    assert models(folder) == set()
    copy.copy()
    assert (read(folder, "one"), read(folder, "one", "1/labels.txt")) == ("first", "second")


async def test_two_processes_never_write_one_copy(s3: FakeS3, folder: Path) -> None:
    put(s3, "one", "first")
    async with copy_of(folder).running():
        with pytest.raises(RuntimeError, match="give each predictor a SLUICE_DATA_DIR of its own"):
            async with copy_of(folder).running():
                pass
    async with copy_of(folder).running():
        assert read(folder, "one") == "first"


@pytest.fixture
async def served(own_broker: NatsServer, s3: FakeS3, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    put_doubler(s3, tmp_path, 2.0)
    worker = ServiceProcess(
        "services.predictor",
        tmp_path / "predictor",
        nats_url=own_broker.url,
        model_repository=URL,
        predictor_bucket_seconds=0.2,
        predictor_poll_seconds=0.1,
    )
    with running_gateway(own_broker, tmp_path) as gateway, worker:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client:
            yield client


def put_doubler(s3: FakeS3, folder: Path, factor: float) -> None:
    write_doubler(folder / "made", factor=factor)
    s3.buckets["models"]["live/m/1/model.onnx"] = (folder / "made" / "model.onnx").read_bytes()


async def test_a_predictor_serves_what_is_in_the_bucket_now(
    served: httpx.AsyncClient, s3: FakeS3, tmp_path: Path
) -> None:
    async def answers(wanted: float) -> bool:
        response = await served.post("/v2/models/m/infer", json={"inputs": [ROW]})
        assert response.status_code == 200, response.text
        return bool(response.json()["outputs"][0]["data"] == [wanted] * 3)

    assert await answers(2.0)
    put_doubler(s3, tmp_path, 5.0)
    await until(lambda: answers(5.0), "the model of the bucket")
