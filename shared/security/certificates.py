"""A small certificate authority for the broker's TLS, kept in a folder and worked by the program `openssl`.

It is for one machine, for tests and for a first cluster; an organisation has an authority of its own.
"""

import ipaddress
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["Authority", "CertificateError"]

DAYS: Final = "825"
CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class CertificateError(Exception):
    """No certificate could be made."""


class Authority:
    """`ca.crt` and `ca.key` in a folder, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        self._folder = folder

    def issue(self, name: str, hosts: Sequence[str]) -> None:
        """Write `<name>.crt` and `<name>.key` for these host names and addresses, for servers and clients; those that
        exist are kept. Raises CertificateError."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        if certificate.exists():
            return
        self._found()
        names = ",".join(_named(host) for host in hosts)
        extensions = [f"subjectAltName={names}", "extendedKeyUsage=serverAuth,clientAuth", "basicConstraints=CA:FALSE"]
        _openssl(
            *("req", "-x509", *CURVE, "-subj", f"/CN={hosts[0]}", "-days", DAYS),
            *("-CA", str(self.certificate), "-CAkey", str(self._key)),
            *(part for extension in extensions for part in ("-addext", extension)),
            *("-keyout", str(key), "-out", str(certificate)),
        )
        # The user that a container runs as must read it; the folder keeps everybody else out.
        key.chmod(0o644)

    def _found(self) -> None:
        if not self.certificate.exists():
            _openssl(
                *("req", "-x509", *CURVE, "-subj", "/CN=Sluice broker authority", "-days", DAYS),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
                *("-keyout", str(self._key), "-out", str(self.certificate)),
            )
            self._key.chmod(0o600)


def _named(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"


def _openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise CertificateError("certificates need the program openssl (3.0 or later); install it, or bring your own")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    if done.returncode != 0:
        raise CertificateError(f"openssl could not make a certificate: {done.stderr.strip()}")
