"""Releases that are signed by the command line, and a gateway that takes signed ones alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice import Client
from sluice.client.errors import SluiceError
from tests.harness.authenticated_gateway import ADMIN, AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.embedding_models import tiny_embedder


def openssl(*words: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the private keys `ann.pem`, `ci.pem` and `stranger.pem`, and the file of the gateway's keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ann", "stranger"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / f"{name}.pem")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / "ci.pem")
    public = [f"name: {name}\n{openssl('pkey', '-in', folder / f'{name}.pem', '-pubout')}" for name in ("ann", "ci")]
    (folder / "trusted.pem").write_text("\n".join(public))
    return folder


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[AuthenticatedGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with (
        NatsServer(folder / "nats") as broker,
        authenticated_gateway(broker, folder, release_keys=keys / "trusted.pem") as running,
    ):
        yield running


@pytest.fixture(scope="module")
def client(gateway: AuthenticatedGateway) -> Iterator[Client]:
    with Client(gateway.process.url, api_key=ADMIN) as client:
        yield client


@pytest.fixture(scope="module")
def release(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    model = client.import_model(tiny_embedder(tmp_path_factory.mktemp("tiny") / "model", seed=41)).name
    for name in ("docs", "other"):
        client.create_collection(name, embedding_model=model)
    return client.create_release("docs", templates={"answer_user.jinja": "Answer."}).name


def sluice(gateway: AuthenticatedGateway, *words: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "sluice", "releases", *map(str, words), "--url", gateway.process.url]
    environment = {**os.environ, "SLUICE_API_KEY": ADMIN, "COLUMNS": "300"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("form", ["tar", "oci", "oci-archive"])
def test_a_signed_export_is_imported_and_says_who_signed(
    gateway: AuthenticatedGateway, client: Client, release: str, keys: Path, form: str, tmp_path: Path
) -> None:
    path = tmp_path / "release"
    sluice(gateway, "export", release, "--format", form, "-o", path, "--sign", keys / "ci.pem")
    (signer,) = client.import_release(path).signed_by
    assert signer.name == "ci"
    audited = [json.loads(line) for line in gateway.process.log.splitlines() if '"audit"' in line]
    logged = [line for line in audited if line["action"] == "POST /v1/releases/content"][-1]
    assert (logged["release"], logged["signed_by"]) == (release, [f"ci ({signer.key})"])


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not on this machine")
def test_a_layout_that_another_tool_has_copied_is_the_same_release(
    gateway: AuthenticatedGateway, client: Client, release: str, keys: Path, tmp_path: Path
) -> None:
    sluice(gateway, "export", release, "--format", "oci", "-o", tmp_path / "release", "--sign", keys / "ann.pem")
    for target in (f"oci-archive:{tmp_path}/copy.tar:{release}", f"oci:{tmp_path}/copy:{release}"):
        copy = ["skopeo", "--insecure-policy", "copy", f"oci:{tmp_path}/release:{release}", target]
        subprocess.run(copy, check=True, capture_output=True, timeout=60)
    for path in (tmp_path / "copy.tar", tmp_path / "copy"):
        assert [signer.name for signer in client.import_release(path).signed_by] == ["ann"]


def test_a_release_that_is_made_of_a_signed_import_names_the_signers(
    gateway: AuthenticatedGateway, client: Client, release: str, keys: Path, tmp_path: Path
) -> None:
    path = tmp_path / "release.tar"
    sluice(gateway, "export", release, "-o", path, "--sign", keys / "ann.pem", "--sign", keys / "stranger.pem")
    imported = client.import_release(path)
    templates = imported.content.templates
    made = client.create_release("other", templates=templates, imported_from=imported.name)
    assert [signer.name for signer in made.signed_by] == ["ann"]
    shown = sluice(gateway, "show", made.name)
    assert "signed by:     ann (" in shown
    assert "signed by ann" in [event.reason for event in made.events]
    # Who signs the same release later is named beside the first.
    sluice(gateway, "export", release, "-o", path, "--sign", keys / "ci.pem")
    client.import_release(path)
    again = client.create_release("other", templates=templates, imported_from=imported.name)
    assert (again.name, [signer.name for signer in again.signed_by]) == (made.name, ["ann", "ci"])
    # The same claim for something else than what was signed.
    other = client.create_release("other", templates={"answer_user.jinja": "Lie."}, imported_from=imported.name)
    assert (other.imported_from, other.signed_by) == (imported.name, ())


def test_a_release_without_a_signature_of_a_known_key_is_refused(
    gateway: AuthenticatedGateway, client: Client, release: str, keys: Path, tmp_path: Path
) -> None:
    path = tmp_path / "release.tar"
    client.save_release(release, path)
    with pytest.raises(SluiceError, match="It is not signed"):
        client.import_release(path)
    sluice(gateway, "export", release, "-o", path, "--sign", keys / "stranger.pem")
    with pytest.raises(SluiceError, match=r"No key of this gateway has signed it.*'ann'"):
        client.import_release(path)
    assert "It is not signed" in sluice(
        gateway, "import", _unsigned(client, release, tmp_path), "--collection", "other", code=1
    )


def test_a_key_that_cannot_sign_is_said_before_anything_is_written(
    gateway: AuthenticatedGateway, release: str, keys: Path, tmp_path: Path
) -> None:
    path = tmp_path / "release.tar"
    said = sluice(gateway, "export", release, "-o", path, "--sign", keys / "trusted.pem", code=2)
    assert "not a PEM private key" in said
    assert not path.exists()


def test_what_is_no_signature_is_refused(gateway: AuthenticatedGateway, release: str) -> None:
    path = f"/v1/releases/{release}/content"
    for text in ("x", "0" * 64 + ":A", "0" * 64 + ":é"):
        response = gateway.admin.get(path, params={"signature": text})
        assert response.status_code == 422, response.text
    statement = gateway.admin.get(f"/v1/releases/{release}/statement")
    assert statement.headers["content-type"] == "application/vnd.in-toto+json"
    assert "release.json" in [one["name"] for one in statement.json()["subject"]]


def _unsigned(client: Client, release: str, folder: Path) -> Path:
    client.save_release(release, folder / "unsigned.tar")
    return folder / "unsigned.tar"
