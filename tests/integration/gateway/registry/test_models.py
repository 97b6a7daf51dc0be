"""/v1/registry/models: models in, out and away, through a real gateway."""

import asyncio
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sluice import AsyncClient, Client
from sluice.client.errors import SluiceError
from tests.harness.embedding_models import tiny_embedder
from tests.harness.processes import ServiceProcess

TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedder(tmp_path_factory.mktemp("model") / "tiny", seed=11)


@pytest.fixture
def client(gateway: ServiceProcess) -> Iterator[Client]:
    with Client(gateway.url) as client:
        yield client


def archive(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def post(gateway: ServiceProcess, content: bytes, **params: str) -> httpx.Response:
    url = f"{gateway.url}/v1/registry/models"
    return httpx.post(url, content=content, params=params, headers=TAR, trust_env=False, timeout=60)


def files_in(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_a_model_comes_back_as_it_was_with_its_checksums(client: Client, folder: Path, tmp_path: Path) -> None:
    stored = client.import_model(folder, base="mini", description="for tests")
    assert (stored.kind, stored.base, stored.dimensions, stored.used_by) == ("embedder", "mini", 32, ())
    assert stored.name == f"m-{stored.hash[:12]}"
    assert client.registered_model(stored.name) == stored
    assert stored.name in [one.name for one in client.registered_models()]

    path = tmp_path / "model.tar"
    assert client.save_model(stored.name, path) == path.stat().st_size
    files = files_in(path)
    for file in stored.files:
        assert files[file.path] == (folder / file.path).read_bytes()
    sums = dict(reversed(line.split("  ")) for line in files[".sluice/SHA256SUMS"].decode().splitlines())
    assert sums == {file.path: hashlib.sha256(files[file.path]).hexdigest() for file in stored.files}

    client.delete_model(stored.name)
    with pytest.raises(SluiceError) as caught:
        client.registered_model(stored.name)
    assert caught.value.code == "model-not-found"
    assert client.import_model(path, hash=stored.hash).hash == stored.hash


def test_the_asynchronous_client_sends_models_too(gateway: ServiceProcess, folder: Path, tmp_path: Path) -> None:
    async def both() -> None:
        async with AsyncClient(gateway.url) as client:
            stored = await client.import_model(folder)
            assert await client.save_model(stored.name, tmp_path / "model.tar") > stored.size

    asyncio.run(both())


def test_a_hash_that_is_another_is_refused(client: Client, folder: Path) -> None:
    with pytest.raises(SluiceError, match="Its hash is"):
        client.import_model(folder, hash="0" * 64)


def test_a_changed_file_does_not_go_with_its_checksums(client: Client, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tar"
    client.save_model(client.import_model(folder).name, path)
    files = {**files_in(path), "config.json": b'{"model_type": "bert"}'}
    (tmp_path / "changed.tar").write_bytes(archive(*files.items()))
    with pytest.raises(SluiceError, match=r"checksums .* 'config.json'"):
        client.import_model(tmp_path / "changed.tar")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (archive(("pytorch_model.bin", b"\x80\x02junk")), "run code"),
        (archive(("model.safetensors", b"\x80\x02junk")), "pickle"),
        (archive(("model.safetensors", b"PK\x03\x04junk")), "archive"),
        (archive(("model.safetensors", b"junk" * 10)), "not a safetensors"),
        (archive(("code.py", b"import os")), "run code"),
        (archive(("../evil.json", b"{}")), "not a path"),
        (archive(("/etc/evil.json", b"{}")), "not a path"),
        (archive(("a/../../evil.json", b"{}")), "not a path"),
        (archive(("config.json", b""), kind=tarfile.SYMTYPE), "link"),
        (archive(("config.json", b""), kind=tarfile.LNKTYPE), "link"),
        (archive(("config.json", b""), kind=tarfile.CHRTYPE), "link or a device"),
        (archive(("config.json", b"{}"), ("config.json", b"{}")), "twice"),
        (archive(("a.json", b"{}"), ("a.json/b.json", b"{}")), "both a file and a folder"),
        (archive(*((f"{n}.json", b"{}") for n in range(201))), "more than 200 files"),
        (archive(("config.json", b"{}"))[:700], "ends too early"),
        (archive(("config.json", b"{}")), "no weights"),
        (b"", "ends too early"),
        (b"\x1f\x8b" + b"x" * 2000, "not a tar"),
        (archive(("x" * 200_000 + ".json", b"{}")), "header has more"),
    ],
)
def test_what_no_model_may_hold_is_refused_and_says_why(gateway: ServiceProcess, content: bytes, said: str) -> None:
    response = post(gateway, content)
    assert response.status_code == 422, response.text
    assert said in response.json()["detail"]


def test_a_bad_file_of_any_size_is_refused_with_its_reason(client: Client, folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "adapter.bin").write_bytes(bytes(150 * 2**20))
    with pytest.raises(SluiceError, match="run code"):
        client.import_model(bad)


def test_names_longer_than_a_header_takes_arrive(client: Client, folder: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (deep / file.name).write_bytes(file.read_bytes())
    place = deep / ("d" * 80) / ("e" * 80)
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("long")
    names = {file.path for file in client.import_model(deep).files}
    assert f"{'d' * 80}/{'e' * 80}/notes.txt" in names


def test_a_model_stays_while_a_collection_needs_it(client: Client, folder: Path) -> None:
    model = client.import_model(folder).name
    client.create_collection("with-model", embedding_model=model, rerank_model=model)
    assert client.collection("with-model").versions[0].embedding_model == model
    assert set(client.registered_model(model).used_by) == {"with-model/v1"}
    with pytest.raises(SluiceError, match="used by with-model/v1") as caught:
        client.delete_model(model)
    assert caught.value.code == "conflict"


def test_a_collection_takes_only_models_that_there_are_and_that_embed(client: Client, folder: Path) -> None:
    with pytest.raises(SluiceError) as caught:
        client.create_collection("nothing", embedding_model="m-000000000000")
    assert caught.value.code == "model-not-found"
    with pytest.raises(SluiceError) as caught:
        client.create_collection("nothing", embedding_model="all-MiniLM-L6-v2")
    assert caught.value.code == "invalid-request"
