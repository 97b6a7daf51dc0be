"""What is sent of a model: of a folder, of the hub's cache, and of a bucket."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice.client.errors import ModelSourceError
from sluice.client.model_sources import model_archive
from tests.harness.fake_s3 import FakeS3, serving_s3

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "onnx/model.onnx": b"other"}
LARGE = b"x" * 3_000_000


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with serving_s3() as fake:
        fake.buckets["models"] = {f"mini/{name}": data for name, data in FILES.items()}
        fake.buckets["models"] |= {
            "mini/": b"",
            "mini/onnx/": b"",
            "mini/.cache/x": b"hidden",
            "minibig/config.json": b"another",
        }
        given = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "eu-central-1"}
        for name, value in (given | {"ENDPOINT": fake.url, "ALLOW_HTTP": "true"}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "model", FILES | {".git/config": b"hidden"})


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A model as the hub's cache has it: links in a snapshot, and blobs called by their hashes."""
    root = tmp_path / "models--org--mini"
    weights = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    written(root / "blobs", {weights: FILES["model.safetensors"], "a" * 40: FILES["config.json"]})
    snapshot = root / "snapshots" / ("c" * 40)
    (snapshot / "1_Pooling").mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{weights}")
    (snapshot / "1_Pooling/config.json").symlink_to(f"../../../blobs/{'a' * 40}")
    return root


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def sent(archive: Callable[[], Iterator[bytes]]) -> dict[str, bytes | None]:
    """The files of an archive by their names; None for a link."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive()))) as tar:
        found = {member.name: tar.extractfile(member) if member.isreg() else None for member in tar}
        return {name: None if file is None else file.read() for name, file in found.items()}


def test_a_folder_is_sent_without_hidden_files(folder: Path) -> None:
    archive = model_archive(folder)
    assert sent(archive) == FILES
    assert sent(archive) == FILES  # a second try is the same


def test_files_that_are_excluded_are_not_sent(folder: Path) -> None:
    assert set(sent(model_archive(folder, exclude=("onnx/*", "*.txt")))) == {"config.json", "model.safetensors"}


def test_the_checksums_go_before_the_files_for_the_gateway_to_compare(folder: Path, tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{'a' * 64}  ./config.json\n{'b' * 64} *model.safetensors\n\n{'c' * 64}  onnx/model.onnx\n")
    found = sent(model_archive(folder, exclude=("onnx/*",), checksums=sums))
    assert next(iter(found)) == ".sluice/SHA256SUMS"
    assert found[".sluice/SHA256SUMS"] == f"{'a' * 64}  config.json\n{'b' * 64}  model.safetensors\n".encode()


@pytest.mark.parametrize("text", ["", "junk", f"{'a' * 63}  config.json", f"{'A' * 64}  config.json"])
def test_checksums_of_another_form_are_refused(text: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(text)
    with pytest.raises(ModelSourceError, match=r"checksums|sha256sum"):
        model_archive(folder, checksums=tmp_path / "sums")


def test_a_snapshot_of_the_hub_is_sent_as_its_files(cached: Path) -> None:
    wanted = {"1_Pooling/config.json": FILES["config.json"], "model.safetensors": FILES["model.safetensors"]}
    assert sent(model_archive(cached / "snapshots" / ("c" * 40))) == wanted
    assert sent(model_archive(cached)) == wanted


def test_a_blob_of_the_hub_that_has_not_its_hash_is_refused(cached: Path) -> None:
    weights = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    (cached / "blobs" / weights).write_bytes(b"changed")
    with pytest.raises(ModelSourceError, match="damaged"):
        sent(model_archive(cached))


def test_of_several_revisions_one_has_to_be_named(cached: Path) -> None:
    (cached / "snapshots" / ("d" * 40)).mkdir()
    with pytest.raises(ModelSourceError, match="2 revisions"):
        model_archive(cached)


@pytest.mark.parametrize(
    "target", ["/etc/hostname", "../../../outside", "../other/x", "../../blobs", "../../blobs/gone"]
)
def test_a_link_that_leads_out_of_the_blobs_is_sent_as_a_link(target: str, cached: Path) -> None:
    (cached.parent / "outside").write_bytes(b"secret")
    (cached / "snapshots" / ("c" * 40) / "evil.json").symlink_to(target)
    assert sent(model_archive(cached))["evil.json"] is None


def test_a_link_in_a_plain_folder_is_sent_as_a_link(folder: Path) -> None:
    (folder / "evil.json").symlink_to("config.json")
    assert sent(model_archive(folder))["evil.json"] is None


def test_what_is_below_a_prefix_of_a_bucket_is_sent(s3: FakeS3) -> None:
    assert sent(model_archive("s3://models/mini")) == FILES
    assert sent(model_archive("s3://models/mini/", exclude=("onnx/*",))) == {
        name: FILES[name] for name in ("config.json", "model.safetensors")
    }
    assert set(s3.loads) == {f"mini/{name}" for name in FILES}


def test_an_object_larger_than_a_piece_arrives_whole(s3: FakeS3) -> None:
    s3.buckets["models"]["large/model.safetensors"] = LARGE
    assert sent(model_archive("s3://models/large")) == {"model.safetensors": LARGE}


def test_an_archive_in_a_bucket_is_sent_as_it_is(s3: FakeS3, folder: Path) -> None:
    s3.buckets["models"]["mini.tar"] = b"".join(model_archive(folder)())
    assert sent(model_archive("s3://models/mini.tar")) == FILES
    with pytest.raises(ModelSourceError, match="sent as it is"):
        model_archive("s3://models/mini.tar", exclude=("*.onnx",))


def test_an_object_that_changes_meanwhile_is_refused(s3: FakeS3) -> None:
    archive = model_archive("s3://models/mini")()
    first = next(archive)  # the header of the first file, with the size that was listed
    s3.buckets["models"]["mini/model.safetensors"] = b"other weights"
    with pytest.raises(ModelSourceError, match="changed while it was read"):
        b"".join([first, *archive])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s3://models/nothing", "nothing below"),
        ("s3://elsewhere/mini", "cannot be listed"),
        ("s3://", "is no source of models"),
        ("https://example.com/model", "is no source of models"),
        ("hf://org/name", "hf download"),
        ("file:///etc", "is no source of models"),
        ("/nowhere", "There is no /nowhere"),
    ],
)
def test_a_source_that_cannot_be_read_says_why(source: str, said: str, s3: FakeS3) -> None:
    with pytest.raises(ModelSourceError, match=said):
        sent(model_archive(source))


def test_a_prefix_with_too_many_objects_is_no_model(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.client.buckets.MOST_OBJECTS", 3)
    with pytest.raises(ModelSourceError, match="more than 3 objects"):
        sent(model_archive("s3://models"))


def test_a_bucket_that_fails_says_so(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.client.buckets.RETRIES", 0)
    s3.broken = True
    with pytest.raises(ModelSourceError, match="cannot be listed"):
        sent(model_archive("s3://models/mini"))
