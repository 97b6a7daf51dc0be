"""Signatures of releases: which hold, and which do not."""

import base64
import hashlib
import hmac
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from services.gateway.releases.archives.signatures import ReleaseKeys, parse_keys
from services.gateway.releases.archives.transfer import ArchiveFormat, export_release, release_statement
from services.gateway.settings import GatewaySettings
from shared.contracts.models import Model
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import ModelOrigin, Release, ReleaseContent, ReleaseImport, ReleaseSigner
from shared.stores.models import ModelStore
from sluice.api import releases as api
from sluice.api.releases import STATEMENT, signed_bytes
from sluice.cli.signing import SigningKey
from tests.harness.releases import MODEL, MODEL_FILES, StoredModels, import_archive, tar_of

pytestmark = pytest.mark.anyio

Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
ENVELOPE = "release.dsse.json"

ED: Private = ed25519.Ed25519PrivateKey.generate()
P256: Private = ec.generate_private_key(ec.SECP256R1())
STRANGER: Private = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    return cast("str", key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def key_file(folder: Path, key: Any) -> Path:
    path = folder / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    path = tmp_path / "keys.pem"
    path.write_text(f"# Who may release.\nname: ann\n{pem(ED)}\nname: ci\nnot-after: 2100-01-01\n{pem(P256)}")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def made(**members: Any) -> Release:
    content = ReleaseContent(
        collection="docs", collection_id="1", version="v1", table="t", templates={"answer_user.jinja": "Answer."}
    )
    members = {"name": "r-0123456789ab", "models": (ModelOrigin.model_validate(MODEL),), **members}
    return Release.model_validate(
        {"tenant": "acme", "hash": content.hash, "content": content, "created_at": 1.0, **members}
    )


async def exported(
    *keys: Private, folder: Path, form: ArchiveFormat = ArchiveFormat.TAR, release: Release | None = None
) -> bytes:
    """As `sluice releases export --sign` does."""
    release = release or made()
    store = cast("ModelStore", await stored())
    shown = api.Release.model_validate(release.model_dump(mode="json", exclude={"tenant"}))
    statement = await release_statement(store, release, shown)
    signed = [SigningKey(key_file(folder, key)).signature(statement).partition(":") for key in keys]
    signatures = [(name, base64.urlsafe_b64decode(text)) for name, _, text in signed]
    return b"".join([piece async for piece in export_release(store, release, shown, form, signatures)])


async def stored() -> StoredModels:
    store = StoredModels()
    files = {f"models/{MODEL['name']}/{name}": data for name, data in MODEL_FILES.items()}
    said = {"name": "r-0123456789ab", "content": {"collection": "docs", "version": "v1"}, "models": [MODEL]}
    await import_archive(packed({**files, "release.json": json.dumps(said).encode()}), store)
    return store


def packed(files: Mapping[str, bytes]) -> bytes:
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    return tar_of({**files, "SHA256SUMS": sums.encode()})


def files_of(archive: bytes) -> dict[str, bytes]:

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {member.name: cast("Any", tar.extractfile(member)).read() for member in tar}
    found.pop("SHA256SUMS", None)
    return found


async def imported(archive: bytes, keys: Path) -> tuple[str, ...]:
    found = await import_archive(archive, StoredModels(), keys=ReleaseKeys(keys))
    return tuple(signer.name for signer in found.signed_by)


async def refusal(archive: bytes, keys: Path | ReleaseKeys) -> str:
    store = StoredModels()
    with pytest.raises(Problem) as caught:
        await import_archive(archive, store, keys=keys if isinstance(keys, ReleaseKeys) else ReleaseKeys(keys))
    assert store.models == []
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    return caught.value.detail


@pytest.mark.parametrize("form", list(ArchiveFormat))
@pytest.mark.parametrize(("key", "name"), [(ED, "ann"), (P256, "ci")])
async def test_a_release_that_a_known_key_has_signed_is_imported(
    key: Private, name: str, form: ArchiveFormat, trusted: Path, tmp_path: Path
) -> None:
    assert await imported(await exported(key, folder=tmp_path, form=form), trusted) == (name,)


async def test_every_key_that_has_signed_is_named(trusted: Path, tmp_path: Path) -> None:
    assert await imported(await exported(STRANGER, ED, P256, folder=tmp_path), trusted) == ("ann", "ci")


async def test_the_envelope_is_one_of_dsse_around_a_statement_of_in_toto(tmp_path: Path) -> None:
    files = files_of(await exported(ED, folder=tmp_path))
    envelope = json.loads(files.pop(ENVELOPE))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    head = f"DSSEv1 28 application/vnd.in-toto+json {len(payload)} ".encode()
    cast("ed25519.Ed25519PrivateKey", ED).public_key().verify(base64.b64decode(signature["sig"]), head + payload)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/release/v0.1"
    assert statement["predicate"] == {"purl": "pkg:generic/sluice-release@r-0123456789ab"}
    assert {one["name"]: one["digest"]["sha256"] for one in statement["subject"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }


async def test_a_signature_by_ed25519_leaves_a_release_the_same_bytes(tmp_path: Path) -> None:
    assert await exported(ED, folder=tmp_path) == await exported(ED, folder=tmp_path)


async def test_a_gateway_without_keys_does_not_read_signatures(tmp_path: Path) -> None:
    found = await import_archive(await exported(STRANGER, folder=tmp_path), StoredModels())
    assert found.signed_by == ()


async def test_a_release_without_a_signature_is_refused(trusted: Path, tmp_path: Path) -> None:
    for form in ArchiveFormat:
        assert "not signed" in await refusal(await exported(folder=tmp_path, form=form), trusted)


async def test_an_unknown_key_is_refused(trusted: Path, tmp_path: Path) -> None:
    said = await refusal(await exported(STRANGER, folder=tmp_path), trusted)
    assert "No key of this gateway" in said
    assert "'ann'" in said


async def test_the_signature_of_another_release_is_refused(trusted: Path, tmp_path: Path) -> None:
    other = files_of(await exported(ED, folder=tmp_path, release=made(name="r-ba9876543210")))
    files = files_of(await exported(folder=tmp_path)) | {ENVELOPE: other[ENVELOPE]}
    assert "another release" in await refusal(packed(files), trusted)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"templates/answer_user.jinja": b"Lie."}, "'templates/answer_user.jinja'"),
        ({"templates/answer_system.jinja": b"Lie."}, "'templates/answer_system.jinja'"),
        ({"templates/answer_user.jinja": None}, "'templates/answer_user.jinja'"),
    ],
)
async def test_a_file_that_was_swapped_added_or_left_out_is_refused(
    changed: dict[str, bytes | None], said: str, trusted: Path, tmp_path: Path
) -> None:
    files: dict[str, bytes | None] = {**files_of(await exported(ED, folder=tmp_path)), **changed}
    archive = packed({name: data for name, data in files.items() if data is not None})
    found = await refusal(archive, trusted)
    assert "not those that were signed" in found
    assert said in found


async def test_a_blob_that_was_swapped_in_a_layout_is_refused(trusted: Path, tmp_path: Path) -> None:
    files = files_of(await exported(ED, folder=tmp_path, form=ArchiveFormat.OCI))
    index = json.loads(files["index.json"])
    manifest = json.loads(files.pop(f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"))
    layer = next(one for one in manifest["layers"] if "template" in one["mediaType"])
    files[f"blobs/sha256/{hashlib.sha256(b'Lie.').hexdigest()}"] = b"Lie."
    layer |= {"digest": f"sha256:{hashlib.sha256(b'Lie.').hexdigest()}", "size": 4}
    data = json.dumps(manifest).encode()
    files[f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"] = data
    index["manifests"][0] |= {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}
    files["index.json"] = json.dumps(index).encode()
    assert "not those that were signed" in await refusal(tar_of(files), trusted)


async def test_a_key_whose_time_has_ended_is_refused(trusted: Path, tmp_path: Path) -> None:
    archive = await exported(ED, folder=tmp_path)
    write(trusted, f"name: ann\nnot-after: 2020-01-31\n{pem(ED)}")
    assert "time ended at 2020-02-01T00:00:00+00:00" in await refusal(archive, trusted)


async def test_a_key_that_was_rotated_counts_no_more_at_once(trusted: Path, tmp_path: Path) -> None:
    archive = await exported(ED, folder=tmp_path)
    keys = ReleaseKeys(trusted)
    await import_archive(archive, StoredModels(), keys=keys)
    write(trusted, f"name: the new key\n{pem(STRANGER)}")
    assert "'the new key'" in await refusal(archive, keys)
    found = await import_archive(await exported(STRANGER, folder=tmp_path), StoredModels(), keys=keys)
    assert [signer.name for signer in found.signed_by] == ["the new key"]


async def test_a_file_of_keys_that_breaks_leaves_the_keys_as_they_were(trusted: Path, tmp_path: Path) -> None:
    keys = ReleaseKeys(trusted)
    write(trusted, "nothing\n")
    assert "not signed" in await refusal(await exported(folder=tmp_path), keys)
    found = await import_archive(await exported(ED, folder=tmp_path), StoredModels(), keys=keys)
    assert [signer.name for signer in found.signed_by] == ["ann"]


async def test_no_change_of_a_signed_archive_gets_through(trusted: Path, tmp_path: Path) -> None:
    chance, keys = random.Random(11), ReleaseKeys(trusted)
    refusals: list[tuple[ProblemType, list[Model]]] = []
    for form in ArchiveFormat:
        archive = await exported(ED, folder=tmp_path, form=form)
        wanted = await import_archive(archive, StoredModels())
        for _ in range(200):
            changed = bytearray(archive)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            store = StoredModels()
            try:
                found = await import_archive(bytes(changed), store, keys=keys)
            except Problem as problem:
                refusals.append((problem.kind, store.models))
            else:  # a member of a tar header that says nothing, such as its time
                assert (found.name, found.content) == (wanted.name, wanted.content)
                assert [model.hash for model in store.models] == [MODEL["hash"]]
    assert len(refusals) > 100
    assert all(refusal == (ProblemType.INVALID_REQUEST, []) for refusal in refusals)


Edit = Callable[[dict[str, Any]], object]


def _signature(envelope: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", envelope["signatures"][0])


def _by_hmac(envelope: dict[str, Any]) -> None:
    """With the public key as the secret, as libraries of tokens once took it."""
    data = signed_bytes(base64.b64decode(envelope["payload"]))
    made_up = hmac.digest(pem(ED).encode(), data, "sha256")
    _signature(envelope).update(sig=base64.b64encode(made_up).decode(), alg="HS256")


def _of_payload_alone(envelope: dict[str, Any]) -> None:
    sig = cast("ed25519.Ed25519PrivateKey", ED).sign(base64.b64decode(envelope["payload"]))
    _signature(envelope).update(sig=base64.b64encode(sig).decode())


def _of_another_payload_type(envelope: dict[str, Any]) -> None:
    payload = base64.b64decode(envelope["payload"])
    head = b"DSSEv1 16 application/json %d " % len(payload)
    sig = cast("ed25519.Ed25519PrivateKey", ED).sign(head + payload)
    envelope["payloadType"] = "application/json"
    _signature(envelope).update(sig=base64.b64encode(sig).decode())


def _signed(payload: bytes) -> Edit:
    def edit(envelope: dict[str, Any]) -> None:
        sig = cast("ed25519.Ed25519PrivateKey", ED).sign(signed_bytes(payload))
        envelope["payload"] = base64.b64encode(payload).decode()
        _signature(envelope).update(sig=base64.b64encode(sig).decode())

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda envelope: _signature(envelope).update(sig=_signature(envelope)["sig"][:40]), "it was changed"),
        (lambda envelope: _signature(envelope).update(sig=""), "it was changed"),
        (lambda envelope: _signature(envelope).update(sig=base64.b64encode(bytes(64)).decode()), "it was changed"),
        (lambda envelope: _signature(envelope).update(sig="é"), "not base64"),
        (lambda envelope: _signature(envelope).update(sig="AAA"), "not base64"),
        (lambda envelope: _signature(envelope).update(sig="A" * 1001), "cannot be read"),
        (lambda envelope: _signature(envelope).update(keyid="x", sig="AAAA"), "No key of this gateway"),
        (lambda envelope: envelope.update(payload=envelope["payload"][:-8]), "it was changed"),
        (lambda envelope: envelope.update(payload="%"), "not base64"),
        (lambda envelope: envelope.update(signatures=[]), "cannot be read"),
        (lambda envelope: envelope.update(signatures=[_signature(envelope)] * 17), "cannot be read"),
        (lambda envelope: envelope.pop("payload"), "cannot be read"),
        (_by_hmac, "it was changed"),
        (_of_payload_alone, "it was changed"),
        (_of_another_payload_type, "payloadType"),
        (_signed(b"{}"), "not the statement of a release"),
        (_signed(b"[" * 100_000), "not the statement of a release"),
        (_signed(b"\xff"), "not the statement of a release"),
    ],
)
async def test_an_envelope_that_does_not_fit_is_refused(edit: Edit, said: str, trusted: Path, tmp_path: Path) -> None:
    files = files_of(await exported(ED, folder=tmp_path))
    envelope = json.loads(files[ENVELOPE])
    edit(envelope)
    assert said in await refusal(packed({**files, ENVELOPE: json.dumps(envelope).encode()}), trusted)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
async def test_an_envelope_that_was_cut_off_is_refused(cut: int, trusted: Path, tmp_path: Path) -> None:
    files = files_of(await exported(ED, folder=tmp_path))
    assert "cannot be read" in await refusal(packed({**files, ENVELOPE: files[ENVELOPE][:cut]}), trusted)


async def test_a_signature_of_one_algorithm_is_none_of_another_key(trusted: Path, tmp_path: Path) -> None:
    files = files_of(await exported(ED, P256, folder=tmp_path))
    envelope = json.loads(files[ENVELOPE])
    first, second = envelope["signatures"]
    first["sig"], second["sig"] = second["sig"], first["sig"]
    # The key's id is a hint alone: each signature is tried with each key.
    assert await imported(packed({**files, ENVELOPE: json.dumps(envelope).encode()}), trusted) == ("ann", "ci")
    other = ec.generate_private_key(ec.SECP256R1())
    write(trusted, f"name: other\n{pem(other)}")
    assert "No key of this gateway" in await refusal(packed(files), trusted)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 PEM public keys"),
        ("nothing", "no line of it"),
        (f"not_after: 2030-01-01\n{pem(ED)}", "no line of it"),
        (f"not-after: soon\n{pem(ED)}", "not a time"),
        (f"{pem(ED)}\nname: too late\n", "its last lines"),
        (f"{pem(ED)}\n{pem(ED)}", "twice"),
        (pem(rsa.generate_private_key(65537, 2048)), "neither Ed25519 nor ECDSA"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "neither Ed25519 nor ECDSA"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "private key"),
    ],
)
def test_a_file_of_keys_says_what_is_wrong_with_it(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        parse_keys(text)
    path = tmp_path / "keys.pem"
    path.write_text(text)
    with pytest.raises(ValidationError, match=said):
        GatewaySettings(release_keys=path)


def test_a_key_without_a_name_is_called_by_its_id() -> None:
    (key,) = parse_keys(pem(ED).replace("\n", "\r\n"))
    assert key.name == key.id[:16]


def test_a_file_of_keys_that_is_missing_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="No such file"):
        GatewaySettings(release_keys=tmp_path / "none.pem")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"junk", "not a PEM private key"),
        (pem(ED).encode(), "not a PEM private key"),
        (
            rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "another kind",
        ),
    ],
)
def test_what_is_no_key_to_sign_with_is_said(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / f"{os.urandom(4).hex()}.pem"
    path.write_bytes(data)
    with pytest.raises(Exception, match=said):
        SigningKey(path)


def test_the_signers_of_an_import_are_those_of_a_release_with_its_models_and_settings_alone() -> None:
    signer = ReleaseSigner(key="0" * 64, name="ann")
    content = made().content.model_copy(update={"embedding_hash": "a" * 64})
    known = ReleaseImport(name="r-0123456789ab", tenant="acme", content=content, signed_by=(signer,), created_at=1.0)
    again = content.model_copy(update={"collection": "other", "version": "v7", "table": "t7"})
    assert known.signers_of(again) == (signer,)
    for changed in ({"embedding_hash": "b" * 64}, {"templates": {}}, {"chunk_tokens": 7}, {"adapter_hash": "c" * 64}):
        assert known.signers_of(again.model_copy(update=changed)) == ()


def test_the_statement_has_the_media_type_of_in_toto() -> None:
    assert signed_bytes(b"{}") == b"DSSEv1 %d %s 2 {}" % (len(STATEMENT), STATEMENT.encode())
