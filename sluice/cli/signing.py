"""Signs the statement of a release with a key of one's own."""

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sluice.api.releases import signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["SigningKey"]


class SigningKey:
    """An Ed25519 key, or an ECDSA key over P-256."""

    def __init__(self, path: Path) -> None:
        """Ask for the passphrase where it has one. Raises `typer.BadParameter` for anything else."""
        self._key = _read(path)

    def signature(self, statement: bytes) -> str:
        """As the API takes it: the key's id, which is the SHA-256 of the public key's DER form, and the signature."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        data = signed_bytes(statement)
        if isinstance(self._key, EllipticCurvePrivateKey):
            signed = self._key.sign(data, ECDSA(SHA256()))
        else:
            signed = self._key.sign(data)
        public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"{hashlib.sha256(public).hexdigest()}:{base64.urlsafe_b64encode(signed).decode()}"


def _read(path: Path) -> "Ed25519PrivateKey | EllipticCurvePrivateKey":
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError:
        raise _wrong("Signing needs a library that is not installed here: pip install 'sluice[secrets]'") from None
    try:
        data = path.read_bytes()
        passphrase = typer.prompt(f"Passphrase of {path}", hide_input=True, err=True) if b"ENCRYPTED" in data else None
        key = load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        wanted = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
        raise _wrong(f"{path} is not a PEM private key, or the passphrase is another one; {wanted}") from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    raise _wrong(f"{path} is a key of another kind; Ed25519 and ECDSA over P-256 are taken")


def _wrong(said: str) -> typer.BadParameter:
    return typer.BadParameter(said, param_hint="--sign")
