"""`sluice models import` from folders and buckets, into a real gateway."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.embedding_models import tiny_embedder
from tests.harness.fake_s3 import FakeS3, serving_s3
from tests.harness.processes import ServiceProcess


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedder(tmp_path_factory.mktemp("model") / "tiny", seed=17)


@pytest.fixture
def s3(folder: Path) -> Iterator[FakeS3]:
    with serving_s3() as fake:
        fake.buckets["models"] = {
            f"tiny/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        yield fake


@pytest.fixture
def sums(folder: Path, tmp_path: Path) -> Path:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder)}\n" for path in files]
    (tmp_path / "SHA256SUMS").write_text("".join(lines))
    return tmp_path / "SHA256SUMS"


def run(gateway: ServiceProcess, s3: FakeS3, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sluice", "models", "import", *map(str, words), "--url", gateway.url]
    given = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "x", "ENDPOINT": s3.url, "ALLOW_HTTP": "true"}
    environment = {**os.environ, "COLUMNS": "300", **{f"AWS_{name}": value for name, value in given.items()}}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rpartition("hash ")[2].strip()


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def test_a_bucket_a_folder_and_a_snapshot_are_the_same_model(
    gateway: ServiceProcess, s3: FakeS3, folder: Path, sums: Path, tmp_path: Path
) -> None:
    digest = printed(run(gateway, s3, folder))
    assert len(digest) == 64
    assert printed(run(gateway, s3, "s3://models/tiny", "--hash", digest, "--checksums", sums)) == digest
    snapshot = tmp_path / "models--org--tiny/snapshots/abc"
    blobs = tmp_path / "models--org--tiny/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        (blobs / str(number)).write_bytes(path.read_bytes())
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    assert printed(run(gateway, s3, snapshot.parent.parent, "--hash", digest)) == digest


def test_files_that_run_code_are_refused_unless_they_are_left_out(
    gateway: ServiceProcess, s3: FakeS3, folder: Path
) -> None:
    s3.buckets["models"]["tiny/pytorch_model.bin"] = b"\x80\x02junk"
    said = refused(run(gateway, s3, "s3://models/tiny"))
    assert "'pytorch_model.bin' is not a file of a model here" in said
    printed(run(gateway, s3, "s3://models/tiny", "--exclude", "*.bin"))


def test_a_changed_object_does_not_go_with_the_checksums(gateway: ServiceProcess, s3: FakeS3, sums: Path) -> None:
    s3.buckets["models"]["tiny/config.json"] += b"\n"
    assert "'config.json'" in refused(run(gateway, s3, "s3://models/tiny", "--checksums", sums))
    del s3.buckets["models"]["tiny/config.json"]
    assert "'config.json'" in refused(run(gateway, s3, "s3://models/tiny", "--checksums", sums))


def test_another_hash_and_a_missing_bucket_are_said(gateway: ServiceProcess, s3: FakeS3) -> None:
    assert "which was asked for" in refused(run(gateway, s3, "s3://models/tiny", "--hash", "0" * 64))
    assert "nothing below s3://models/none" in refused(run(gateway, s3, "s3://models/none"))
