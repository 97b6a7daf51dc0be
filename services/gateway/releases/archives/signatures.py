"""Signatures of releases: a DSSE envelope (Dead Simple Signing Envelope 1.0) around an in-toto statement (version 1).

The statement names each file of a release with its hash, so that a signature holds in whichever format the release
comes. Its predicate is in-toto's `release`. The algorithm is that of the key, never one that an envelope names:
Ed25519, or ECDSA over P-256 with SHA-256. Nothing that an envelope says counts before a signature of it is verified.
"""

import base64
import binascii
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.gateway.http.tar import refused
from services.gateway.releases.archives.files import SIGNATURE, ReleaseFile
from shared.contracts.releases import ReleaseSigner
from sluice.api.releases import STATEMENT, signed_bytes

__all__ = ["ReleaseKeys", "TrustedKey", "envelope_of", "parse_keys", "statement_of"]

log = logging.getLogger(__name__)

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://in-toto.io/attestation/release/v0.1"
PURL: Final = "pkg:generic/sluice-release@"

MOST_SIGNATURES: Final = 16
MOST_KEYS: Final = 100
MOST_SUBJECTS: Final = 1000

BLOCK: Final = re.compile(r"-----BEGIN PUBLIC KEY-----\n.*?-----END PUBLIC KEY-----", re.DOTALL)
LABEL: Final = re.compile(r"(name|not-after):\s*(\S.{0,99})")


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Signature(_Read):
    keyid: Annotated[str, Field(max_length=200)] = ""
    sig: Annotated[str, Field(max_length=1000)]


class _Envelope(_Read):
    payload: str
    payload_type: Annotated[str, Field(alias="payloadType", max_length=200)]
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=MOST_SIGNATURES, strict=False)]


class _Digest(_Read):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Subject(_Read):
    name: str
    digest: _Digest


class _Predicate(_Read):
    purl: str


class _Statement(_Read):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[tuple[_Subject, ...], Field(max_length=MOST_SUBJECTS, strict=False)]
    predicate_type: Annotated[Literal["https://in-toto.io/attestation/release/v0.1"], Field(alias="predicateType")]
    predicate: _Predicate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """`id` is the SHA-256 of the key's DER form in hexadecimal digits, `not_after` the end of its time in Unix seconds,
    None for none."""

    id: str
    name: str
    not_after: float | None
    key: Ed25519PublicKey | EllipticCurvePublicKey

    def verifies(self, signature: bytes, data: bytes) -> bool:
        try:
            if isinstance(self.key, Ed25519PublicKey):
                self.key.verify(signature, data)
            else:
                self.key.verify(signature, data, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


class ReleaseKeys:
    """The keys whose signatures an import takes. Their file is read again when it changes."""

    def __init__(self, file: Path) -> None:
        """Raises OSError or ValueError for a file without good keys."""
        self._file = file
        self._stamp, self._keys = _stamp(file), parse_keys(file.read_text("utf-8"))

    def signers(
        self, envelope: bytes | None, release: str, files: Mapping[str, str], now: float
    ) -> tuple[ReleaseSigner, ...]:
        """Whose keys have signed this release, at least one: `files` are the hashes of its files by their names.

        Raises Problem INVALID_REQUEST.
        """
        if envelope is None:
            raise refused(
                "It is not signed, and this gateway takes signed releases alone. Export it with --sign, with one of "
                f"the keys {self._names()}."
            )
        signed = _read_envelope(envelope)
        payload = _decoded(signed.payload, "payload")
        signatures = [_decoded(one.sig, "signature") for one in signed.signatures]
        data = signed_bytes(payload)
        found = [key for key in self._current() if any(key.verifies(one, data) for one in signatures)]
        valid = [key for key in found if key.not_after is None or now < key.not_after]
        if not found:
            raise refused(self._unverified(signed))
        if not valid:
            ended = datetime.fromtimestamp(found[0].not_after or 0.0, UTC).isoformat()
            raise refused(
                f"It is signed with the key '{found[0].name}', whose time ended at {ended}. Sign it with another one."
            )
        _check_statement(payload, release, files)
        return tuple(ReleaseSigner(key=key.id, name=key.name) for key in valid)

    def _unverified(self, signed: _Envelope) -> str:
        known = {key.id: key.name for key in self._keys}
        for one in signed.signatures:
            if one.keyid in known:
                return f"Its signature is not one of the key '{known[one.keyid]}', which it names: it was changed."
        ids = ", ".join(repr(one.keyid[:16]) for one in signed.signatures[:3])
        return f"No key of this gateway has signed it. It names {ids}; the keys here are {self._names()}."

    def _names(self) -> str:
        return ", ".join(f"'{key.name}' ({key.id[:16]})" for key in self._keys[:5])

    def _current(self) -> tuple[TrustedKey, ...]:
        try:
            if (stamp := _stamp(self._file)) != self._stamp:
                self._keys = parse_keys(self._file.read_text("utf-8"))
                self._stamp = stamp
        except (OSError, ValueError) as error:
            log.warning("the file of the keys of releases cannot be read: %s", error)
        return self._keys


def parse_keys(text: str) -> tuple[TrustedKey, ...]:
    """The PEM public keys in a text. Lines before each may say its `name:` and its end, `not-after:`.

    Raises ValueError.
    """
    if "PRIVATE KEY-----" in text:
        raise ValueError("it holds a private key; put the public one there: openssl pkey -pubout")
    keys: list[TrustedKey] = []
    said, end = {}, 0
    text = text.replace("\r\n", "\n")
    for block in BLOCK.finditer(text):
        said = _labels(text[end : block.start()])
        keys.append(_key(block.group(), said))
        end = block.end()
    if _labels(text[end:]):
        raise ValueError("its last lines are of no key: name and not-after come before the key")
    if not 0 < len(keys) <= MOST_KEYS:
        raise ValueError(f"it has {len(keys)} PEM public keys; 1 to {MOST_KEYS} are taken")
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("a key is in it twice")
    return tuple(keys)


def statement_of(release: str, files: Sequence[ReleaseFile]) -> bytes:
    """What is signed of a release. The same release has the same statement."""
    said = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": file.name, "digest": {"sha256": file.sha256}} for file in files],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"purl": f"{PURL}{release}"},
    }
    return json.dumps(said, separators=(",", ":")).encode()


def envelope_of(statement: bytes, signatures: Sequence[tuple[str, bytes]]) -> ReleaseFile:
    """The file with a statement and its signatures, each with the id of its key."""
    said = {
        "payload": base64.b64encode(statement).decode(),
        "payloadType": STATEMENT,
        "signatures": [{"keyid": key, "sig": base64.b64encode(one).decode()} for key, one in signatures],
    }
    return ReleaseFile.of(SIGNATURE, json.dumps(said, separators=(",", ":")).encode())


def _check_statement(payload: bytes, release: str, files: Mapping[str, str]) -> None:
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        raise refused(f"What is signed is not the statement of a release: {_first(error)}.") from None
    if statement.predicate.purl != f"{PURL}{release}":
        raise refused(f"Its signature is one of another release: {statement.predicate.purl[:80]!r}.")
    signed = {subject.name: subject.digest.sha256 for subject in statement.subject}
    if len(signed) < len(statement.subject):
        raise refused("Its signature names a file twice.")
    if wrong := sorted(name for name in signed.keys() | files.keys() if signed.get(name) != files.get(name)):
        raise refused(f"Its files are not those that were signed; the first that differs is '{wrong[0][:80]}'.")


def _read_envelope(data: bytes) -> _Envelope:
    try:
        envelope = _Envelope.model_validate_json(data)
    except ValidationError as error:
        raise refused(f"Its {SIGNATURE} cannot be read: {_first(error)}.") from None
    if envelope.payload_type != STATEMENT:
        raise refused(f"Its {SIGNATURE} has the payloadType {envelope.payload_type[:80]!r} and not {STATEMENT}.")
    return envelope


def _decoded(text: str, what: str) -> bytes:
    """Base64 in either of its alphabets, as DSSE allows."""
    try:
        return base64.b64decode(text.translate({ord("-"): "+", ord("_"): "/"}), validate=True)
    except (binascii.Error, ValueError):
        raise refused(f"The {what} in its {SIGNATURE} is not base64.") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))[:80]
    return f"{place + ': ' if place else ''}{first['msg'][:200]}"


def _labels(text: str) -> dict[str, str]:
    """Strict: a line that was meant to end a key's time and has a typing error must not be passed over."""
    said: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        if line.startswith("#"):
            continue
        if (label := LABEL.fullmatch(line)) is None or label[1] in said:
            raise ValueError(
                f"{line[:80]!r} is no line of it: write PEM public keys, and before one name: …, not-after: … or # …"
            )
        said[label[1]] = label[2]
    return said


def _key(pem: str, said: Mapping[str, str]) -> TrustedKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"a key in it cannot be read: {str(error)[:200]}") from None
    if not isinstance(key, Ed25519PublicKey) and not (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        raise ValueError(  # noqa: TRY004  (the file is wrong, and no caller)
            "a key in it is neither Ed25519 nor ECDSA over P-256"
        )
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    ends = _end(said["not-after"]) if "not-after" in said else None
    return TrustedKey(id=digest, name=said.get("name", digest[:16]), not_after=ends, key=key)


def _end(text: str) -> float:
    """A day counts to its end, in UTC. Raises ValueError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write 2027-01-31 or 2027-01-31T12:00:00Z") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (at + timedelta(days=1) if len(text) == len("2027-01-31") else at).timestamp()


def _stamp(file: Path) -> tuple[float, int]:
    status = file.stat()
    return status.st_mtime, status.st_size
