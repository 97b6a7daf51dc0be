"""A small certificate authority for the broker's TLS, kept in a folder.

It serves one machine, tests and a first cluster. An organisation has an authority of its own.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority"]

LIFETIME: Final = timedelta(days=825)


class Authority:
    """`ca.crt` and `ca.key` in a folder, created at first use.

    `ca.crt` is what is trusted: the authority's own certificate comes first. While it is being replaced, that of the
    next one or of the one before follows.
    """

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        self._next = folder / "ca-next.key"
        self._folder = folder

    def rotate(self) -> None:
        """Make the next authority, which is trusted too from now on. Raises as `issue`."""
        own, _ = self._load()
        certificate, key = _make_authority()
        _write(self._next, key, mode=0o600)
        self._trust(own, certificate)

    def switch(self) -> None:
        """Issue certificates by the next authority from now on. Raises ValueError where there is none."""
        if not self._next.exists():
            raise ValueError("there is no next authority: rotate it first")
        own, following = x509.load_pem_x509_certificates(self.certificate.read_bytes())
        self._next.replace(self._key)
        self._trust(following, own)

    def retire(self) -> None:
        """Trust the authority alone, and neither the one before nor a next one."""
        self._next.unlink(missing_ok=True)
        own, _ = self._load()
        self._trust(own)

    def _trust(self, *certificates: x509.Certificate) -> None:
        self.certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))

    def issue(self, name: str, hosts: Sequence[str]) -> None:
        """Write `<name>.crt` and `<name>.key` for these host names and IP addresses, for servers and clients.

        An existing certificate is kept. Raises OSError, and ValueError for an authority that cannot be read.
        """
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        if certificate.exists():
            return
        issuer, issuer_key = self._load()
        private = generate_private_key(SECP256R1())
        signed = (
            _builder(hosts[0], private, issuer.subject)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .sign(issuer_key, SHA256())
        )
        # The user of a container must be able to read the key. The folder keeps everyone else out.
        _write(key, private, mode=0o644)
        certificate.write_bytes(signed.public_bytes(Encoding.PEM))

    def _load(self) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
        if self.certificate.exists():
            key = cast("CertificateIssuerPrivateKeyTypes", load_pem_private_key(self._key.read_bytes(), password=None))
            return x509.load_pem_x509_certificate(self.certificate.read_bytes()), key
        certificate, own = _make_authority()
        _write(self._key, own, mode=0o600)
        self._trust(certificate)
        return certificate, own


def _make_authority() -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    own = generate_private_key(SECP256R1())
    certificate = (
        _builder("Sluice broker authority", own, issuer=None)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                key_cert_sign=True,
                crl_sign=True,
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(own, SHA256())
    )
    return certificate, own


def _builder(name: str, key: EllipticCurvePrivateKey, issuer: x509.Name | None) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, key: EllipticCurvePrivateKey, *, mode: int) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(mode)
