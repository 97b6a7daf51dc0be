"""Releases as OCI image layouts: what is written, and what of others' is refused."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from services.gateway.releases.archives.image_layout import ARTIFACT
from services.gateway.releases.archives.transfer import ArchiveFormat, export_release
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import ModelOrigin, Release, ReleaseContent, ReleaseEvent, ReleaseStage
from shared.stores.models import ModelStore
from sluice.api import releases as api
from tests.harness.releases import MODEL, MODEL_FILES, StoredModels, import_archive, tar_of

pytestmark = pytest.mark.anyio

EMPTY = "application/vnd.oci.empty.v1+json"
Edit = Callable[[dict[str, Any], dict[str, bytes]], object]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def made(**members: Any) -> Release:
    content = ReleaseContent(
        collection="docs",
        collection_id="1",
        version="v1",
        table="t",
        embedding_model=MODEL["name"],
        templates={"answer_user.jinja": "Answer.", "answer_system.jinja": "Answer."},
    )
    return Release.model_validate(
        {
            "name": "r-0123456789ab",
            "tenant": "acme",
            "hash": content.hash,
            "content": content,
            "models": (ModelOrigin.model_validate(MODEL),),
            "created_at": 1_700_000_000.5,
            "description": "first",
            **members,
        }
    )


async def exported(release: Release, form: ArchiveFormat = ArchiveFormat.OCI) -> bytes:
    store = StoredModels()
    await import_archive(PLAIN, store)
    shown = api.Release.model_validate(release.model_dump(mode="json", exclude={"tenant"}))
    return b"".join([piece async for piece in export_release(cast("ModelStore", store), release, shown, form)])


def plain() -> bytes:
    files = {f"models/{MODEL['name']}/{name}": data for name, data in MODEL_FILES.items()}
    said = {"name": "r-0123456789ab", "content": {"collection": "docs", "version": "v1"}, "models": [MODEL]}
    files["release.json"] = json.dumps(said).encode()
    sums = "".join(f"{digest(data)}  {name}\n" for name, data in files.items())
    return tar_of({**files, "SHA256SUMS": sums.encode()})


PLAIN = plain()


def files_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: cast("Any", tar.extractfile(member)).read() for member in tar}


def blob(files: Mapping[str, bytes], descriptor: Mapping[str, Any]) -> bytes:
    data = files[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
    assert (len(data), f"sha256:{digest(data)}") == (descriptor["size"], descriptor["digest"])
    return data


def add(files: dict[str, bytes], data: bytes) -> dict[str, Any]:
    files[f"blobs/sha256/{digest(data)}"] = data
    return {"digest": f"sha256:{digest(data)}", "size": len(data)}


async def edited(edit: Edit) -> bytes:
    """An export whose manifest was changed, with all digests that this takes."""
    files = files_of(await exported(made()))
    index = json.loads(files["index.json"])
    listed = index["manifests"][0]
    manifest = json.loads(blob(files, listed))
    del files[f"blobs/sha256/{listed['digest'][7:]}"]
    edit(manifest, files)
    listed |= add(files, json.dumps(manifest).encode())
    files["index.json"] = json.dumps(index).encode()
    return tar_of(files)


async def refusal(content: bytes, **options: Any) -> Problem:
    store = StoredModels()
    with pytest.raises(Problem) as caught:
        await import_archive(content, store, **options)
    assert store.models == []
    assert len(caught.value.detail) < 2000
    return caught.value


async def test_a_layout_is_one_manifest_that_names_every_file() -> None:
    files = files_of(await exported(made()))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = json.loads(files["index.json"])["manifests"]
    assert (listed["mediaType"], listed["artifactType"]) == ("application/vnd.oci.image.manifest.v1+json", ARTIFACT)
    assert listed["annotations"] == {"org.opencontainers.image.ref.name": "r-0123456789ab"}
    manifest = json.loads(blob(files, listed))
    assert manifest["artifactType"] == ARTIFACT
    assert manifest["annotations"]["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert manifest["annotations"]["org.opencontainers.image.version"] == "r-0123456789ab"
    assert json.loads(blob(files, manifest["config"]))["name"] == "r-0123456789ab"
    named = {layer["annotations"]["org.opencontainers.image.title"]: layer for layer in manifest["layers"]}
    assert set(named) == {
        "templates/answer_system.jinja",
        "templates/answer_user.jinja",
        *(f"models/{MODEL['name']}/{name}" for name in MODEL_FILES),
    }
    for name, data in MODEL_FILES.items():
        assert blob(files, named[f"models/{MODEL['name']}/{name}"]) == data


async def test_a_layout_is_imported_as_the_plain_archive_is() -> None:
    found = []
    for form in ArchiveFormat:
        store = StoredModels()
        found.append(await import_archive(await exported(made(), form), store))
        assert [model.hash for model in store.models] == [MODEL["hash"]]
    assert found[0] == found[1]
    assert found[0].content.templates == {"answer_user.jinja": "Answer.", "answer_system.jinja": "Answer."}


@pytest.mark.parametrize("form", list(ArchiveFormat))
async def test_a_release_is_the_same_bytes_whatever_happened_to_it_since(form: ArchiveFormat) -> None:
    event = ReleaseEvent(at=1.0, stage=ReleaseStage.LIVE)
    assert await exported(made(), form) == await exported(made(events=(event,)), form)


async def test_a_release_without_models_and_templates_has_an_empty_layer() -> None:
    content = ReleaseContent(collection="docs", collection_id="1", version="v1", table="t")
    archive = await exported(made(content=content, models=()))
    files = files_of(archive)
    manifest = json.loads(blob(files, json.loads(files["index.json"])["manifests"][0]))
    assert [layer["mediaType"] for layer in manifest["layers"]] == [EMPTY]
    assert (await import_archive(archive, StoredModels())).models == ()


async def test_other_manifests_of_a_layout_are_passed_over() -> None:
    files = files_of(await exported(made()))
    index = json.loads(files["index.json"])
    other = {
        "schemaVersion": 2,
        "artifactType": "application/x-other",
        "config": {"mediaType": EMPTY, **add(files, b"{}")},
    }
    index["manifests"].insert(
        0, {"mediaType": index["manifests"][0]["mediaType"], **add(files, json.dumps(other).encode())}
    )
    index["manifests"].insert(0, {"mediaType": "application/x-strange", "digest": "sha256:" + "0" * 64, "size": 1})
    files["index.json"] = json.dumps(index).encode()
    assert (await import_archive(tar_of(files), StoredModels())).name == "r-0123456789ab"


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "blobs/sha256/../../evil", "blobs/sha256/" + "A" * 64, "x"])
async def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    files = files_of(await exported(made()))
    assert "refused" in (await refusal(tar_of({**files, name: b"{}"}))).detail
    assert "refused" in (await refusal(tar_of({name: b"{}", **files}))).detail


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
async def test_a_link_or_a_device_is_refused(kind: bytes) -> None:
    assert "link or a device" in (await refusal(tar_of({f"blobs/sha256/{'0' * 64}": b""}, kind=kind))).detail


async def test_a_blob_of_other_bytes_is_refused() -> None:
    files = files_of(await exported(made()))
    path = f"blobs/sha256/{digest(MODEL_FILES['model.safetensors'])}"
    files[path] = files[path][:-1] + b"\1"
    assert "has other bytes" in (await refusal(tar_of(files))).detail


async def test_a_missing_blob_is_refused() -> None:
    files = files_of(await exported(made()))
    del files[f"blobs/sha256/{digest(MODEL_FILES['model.safetensors'])}"]
    assert "is missing" in (await refusal(tar_of(files))).detail


async def test_a_compressed_archive_is_refused_and_not_unpacked() -> None:
    assert "without compression" in (await refusal(gzip.compress(bytes(64 * 2**20)))).detail
    assert "without compression" in (await refusal(gzip.compress(await exported(made())))).detail


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"oci-layout": None}, "no oci-layout"),
        ({"index.json": None}, "no index.json"),
        ({"oci-layout": b'{"imageLayoutVersion": "2.0.0"}'}, "the version '2.0.0'"),
        ({"oci-layout": b"[" * 100_000}, "cannot be read"),
        ({"index.json": b"[" * 100_000}, "cannot be read"),
        ({"index.json": b'{"a":' * 100_000}, "cannot be read"),
        ({"index.json": b"\xff\xfe"}, "cannot be read"),
        ({"index.json": b'{"schemaVersion": 1, "manifests": []}'}, "schemaVersion"),
        ({"index.json": b'{"schemaVersion": 2, "manifests": []}'}, "no manifest with the artifactType"),
        ({"index.json": b" " * (4 * 2**20 + 1)}, "more than 4,194,304 bytes"),
        (
            {"index.json": json.dumps({"schemaVersion": 2, "manifests": [{}] * 101}).encode()},
            "cannot be read: manifests",
        ),
        ({"index.json": b'{"schemaVersion": 2, "manifests": [{"mediaType": "a", "digest": "b", "size": -1}]}'}, "size"),
    ],
)
async def test_a_layout_that_says_nothing_sensible_is_refused(changed: dict[str, bytes | None], said: str) -> None:
    files: dict[str, bytes | None] = {**files_of(await exported(made())), **changed}
    present = {name: data for name, data in files.items() if data is not None}
    assert said in (await refusal(tar_of(present))).detail


def _first(manifest: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", manifest["layers"][0])


def _titled(title: str) -> Edit:
    return lambda manifest, _: _first(manifest)["annotations"].update({"org.opencontainers.image.title": title})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda manifest, _: _first(manifest).update(size=1), "instead of 1"),
        (lambda manifest, _: _first(manifest).update(size=2**80), "cannot be read"),
        (lambda manifest, _: _first(manifest).update(digest="sha256:" + "0" * 64), "is missing"),
        (lambda manifest, _: _first(manifest).update(digest="sha512:" + "0" * 128), "not one of SHA-256"),
        (lambda manifest, _: _first(manifest).update(digest="sha256:../../../etc/passwd"), "not one of SHA-256"),
        (lambda manifest, _: _first(manifest).update(mediaType="application/x-strange"), "has the media type"),
        (
            lambda manifest, _: _first(manifest).update(mediaType="application/vnd.oci.image.layer.v1.tar+gzip"),
            "without compression",
        ),
        (lambda manifest, _: _first(manifest).pop("annotations"), "'' is no part of a release"),
        (_titled("../../evil.jinja"), "is no part of a release"),
        (_titled("templates/../../evil"), "is not a path"),
        (_titled("models/../evil.json"), "is not a path"),
        (_titled("models/m/evil.py"), "run code"),
        (_titled("release.json"), "config of a release"),
        (_titled("templates/answer_user.jinja"), "twice"),
        (_titled("templates/answer_user.jinja/a"), "both a file and a folder"),
        (lambda manifest, _: manifest["config"].update(mediaType="application/json"), "Its config has the media type"),
        (lambda manifest, _: manifest.update(artifactType="a", config=manifest["layers"][0]), "no manifest"),
        (lambda manifest, _: manifest.update(layers=[_first(manifest)] * 401), "cannot be read: layers"),
        (lambda manifest, _: manifest.update(annotations={"a": "x" * (4 * 2**20)}), "more than 4,194,304 bytes"),
        (lambda manifest, _: manifest["layers"].clear(), "has no files in it"),
        (
            lambda manifest, files: manifest["config"].update(add(files, b'{"a":' * 100_000)),
            "release.json cannot be read",
        ),
        (
            lambda manifest, files: manifest["config"].update(add(files, b" " * (16 * 2**20 + 1))),
            "more than 16,777,216",
        ),
    ],
)
async def test_a_manifest_that_does_not_fit_its_blobs_is_refused(edit: Edit, said: str) -> None:
    assert said in (await refusal(await edited(edit))).detail


async def test_two_releases_in_one_layout_are_refused() -> None:
    files = files_of(await exported(made()))
    other = files_of(await exported(made(name="r-ba9876543210")))
    indexes = [json.loads(one["index.json"]) for one in (files, other)]
    index = {**indexes[0], "manifests": [*indexes[0]["manifests"], *indexes[1]["manifests"]]}
    content = tar_of({**files, **other, "index.json": json.dumps(index).encode()})
    assert "2 releases (r-0123456789ab, r-ba9876543210)" in (await refusal(content)).detail


async def test_one_blob_as_many_files_counts_as_often() -> None:
    def many(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        large = {**_first(manifest), **add(files, bytes(2**20))}
        manifest["layers"] += [
            {**large, "annotations": {"org.opencontainers.image.title": f"templates/{number}.jinja"}}
            for number in range(100)
        ]

    problem = await refusal(await edited(many), most_bytes=50 * 2**20)
    assert problem.kind is ProblemType.TOO_LARGE
