"""Releases on the whole platform: made, promoted, taken back, traced, and carried to another collection."""

import json
from pathlib import Path

import pytest

from sluice import Client
from sluice.client.errors import SluiceError
from tests.harness.embedding_models import tiny_embedder
from tests.harness.platform import Platform

TEXTS = {f"log-{number}": f"Lamp {number} of the lighthouse burned {number} litres of oil." for number in range(5)}
QUESTION = "How much oil did lamp 3 burn?"


@pytest.fixture(scope="module")
def model(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    with platform.client() as client:
        return client.import_model(tiny_embedder(tmp_path_factory.mktemp("tiny") / "model", seed=31), base="tiny").name


@pytest.fixture
def logs(client: Client, request: pytest.FixtureRequest) -> str:
    name = f"releases-{request.node.name.removeprefix('test_')[:32]}"
    client.create_collection(name)
    client.wait(client.add_texts(name, TEXTS).id)
    return name


def reindexed(client: Client, collection: str, model: str) -> str:
    job = client.submit_job({"kind": "reindex", "collection": collection, "embedding_model": model, "switch": False})
    done = client.wait(job.id, timeout=200)
    assert done.state == "succeeded", done.error
    return str(done.outputs["version"])


def test_one_command_promotes_one_takes_back_and_one_traces(
    platform: Platform, client: Client, logs: str, model: str
) -> None:
    first = json.loads(platform.sluice("releases", "create", logs, "--alias", "champion", "--json"))
    assert (first["stage"], first["aliases"]) == ("live", ["champion"])
    assert client.query(QUESTION, collection=logs).release == first["name"]

    version = reindexed(client, logs, model)
    second = client.create_release(logs, version=version, description="a model of our own")
    assert second.stage == "candidate"
    assert second.content.embedding_hash == client.registered_model(model).hash
    assert [stop["stage"] for stop in second.content.stops] == ["embed", "retrieve", "generate"]
    assert client.create_release(logs, version=version, description="again").name == second.name

    platform.sluice("releases", "promote", second.name, "--reason", "better")
    answer = client.query(QUESTION, collection=logs)
    assert (answer.release, answer.collection_version, answer.embedding_model) == (second.name, version, model)
    shown = platform.sluice("releases", "show", second.name)
    assert "live" in shown
    assert "better" in shown
    lines = platform.sluice("releases", "lineage", second.name)
    assert f"embedder {model}, from tiny" in lines

    with pytest.raises(SluiceError, match=second.name) as caught:
        client.delete_model(model)
    assert caught.value.code == "conflict"
    with pytest.raises(SluiceError, match="is live"):
        client.delete_release(second.name)

    platform.sluice("releases", "rollback", logs)
    assert client.query(QUESTION, collection=logs).release == first["name"]
    assert client.release(f"{logs}@champion").stage == "live"
    assert {one.name: one.stage for one in client.releases(logs)} == {
        first["name"]: "live",
        second.name: "archived",
    }


def test_a_release_that_was_exported_is_a_candidate_of_another_collection_after_its_import(
    platform: Platform, client: Client, logs: str, model: str, tmp_path: Path
) -> None:
    version = reindexed(client, logs, model)
    templates = {"answer_system.jinja": "Answer from the logs."}
    made = client.create_release(logs, version=version, templates=templates)
    path = tmp_path / "release.tar"
    platform.sluice("releases", "export", made.name, "-o", str(path))

    other = "releases-imported"
    client.create_collection(other)
    client.wait(client.add_texts(other, TEXTS).id)
    found = json.loads(platform.sluice("releases", "import", str(path), "--collection", other, "--json"))
    assert (found["stage"], found["imported_from"]) == ("candidate", made.name)
    assert found["content"]["embedding_model"] == model
    assert found["content"]["templates"] == templates
    job = client.wait(client.promote_release(found["name"]).id)
    assert job.state == "succeeded", job.error
    assert client.query(QUESTION, collection=other).embedding_model == model

    folder = tmp_path / "release"
    platform.sluice("releases", "export", made.name, "--format", "oci", "-o", str(folder))
    (listed,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    assert (folder / "blobs/sha256" / listed["digest"].removeprefix("sha256:")).stat().st_size == listed["size"]
    again = client.import_release(folder)
    assert (again.name, [one.name for one in again.models]) == (made.name, [model])
    packed = tmp_path / "release-oci.tar"
    client.save_release(made.name, packed, format="oci-archive")
    assert client.import_release(packed) == again
    with pytest.raises(FileExistsError, match="exists already"):
        client.save_release(made.name, folder, format="oci")

    damaged = bytearray(path.read_bytes())
    place = damaged.rindex(b"model.safetensors") + 2000
    damaged[place : place + 8] = b"XXXXXXXX"
    path.write_bytes(bytes(damaged))
    with pytest.raises(SluiceError, match="checksums"):
        client.import_release(path)
