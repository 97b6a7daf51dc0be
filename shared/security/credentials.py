"""Who a process is to the broker: its user, its inbox, its part in the topology, and what it trusts (TLS).

Passwords and certificates change while a service runs. They are files, read again at each connection.
"""

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from faststream.nats.security import NatsSecurity, NatsUserPassword

from shared.nats.settings import BrokerSettings
from shared.nats.subjects import EVERYTHING, StreamOwnership
from shared.security.passwords import passwords_in
from shared.security.roles import inbox_prefix, role_of

__all__ = ["Credentials", "Trust"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`name` is for messages to people. `options` are those of a connection.

    `passwords` and `trust` are what a connection is to ask at each try; None where the broker asks for none.
    """

    name: str
    ownership: StreamOwnership
    options: dict[str, Any]
    passwords: "Callable[[], Sequence[str]] | None"
    trust: "Trust | None"

    @classmethod
    def of(cls, settings: BrokerSettings) -> "Credentials":
        """Without a user, or with one that is no role of Sluice's, a process may make everything.

        Raises ValueError for a role that does not exist and for certificates that cannot be used.
        """
        role = role_of(settings.nats_role or settings.nats_user or "")
        if settings.nats_role and role is None:
            raise ValueError(f"SLUICE_NATS_ROLE: there is no role '{settings.nats_role}', see docs/broker.md")
        trust = _trust(settings)
        passwords = _passwords(settings)
        options: dict[str, Any] = {"security": _security(settings, trust, passwords)}
        if role is not None:
            options["inbox_prefix"] = inbox_prefix(role.name)
        return cls(
            name=settings.nats_user or "anonymous",
            ownership=role.ownership if role is not None else StreamOwnership(makes=EVERYTHING),
            options=options,
            passwords=passwords,
            trust=trust,
        )


class Trust:
    """The TLS context that the files describe now. If they cannot be used, the one from before stays in force.

    Raises OSError or ssl.SSLError where there is none from before.
    """

    def __init__(self, ca: Path | None, cert: Path | None, key: Path | None, *, verify_hostname: bool) -> None:
        self._ca = ca
        self._cert = cert
        self._key = key
        self._verify_hostname = verify_hostname
        self._read = self._contents()
        self._context = self._load()

    def __call__(self) -> ssl.SSLContext:
        try:
            contents = self._contents()
            if contents != self._read:
                self._context, self._read = self._load(), contents
                log.info("the certificates for the broker have changed")
        except OSError as error:  # ssl.SSLError is one
            log.warning("the new certificates for the broker cannot be used: %s", error)
        return self._context

    def _contents(self) -> tuple[bytes | None, ...]:
        return tuple(path.read_bytes() if path is not None else None for path in (self._ca, self._cert, self._key))

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self._verify_hostname
        if self._cert is not None:
            context.load_cert_chain(self._cert, self._key)
        return context


def _security(
    settings: BrokerSettings, trust: Trust | None, passwords: Callable[[], Sequence[str]] | None
) -> NatsSecurity | None:
    tls: dict[str, Any] = {
        "ssl_context": trust() if trust is not None else None,
        "use_ssl": trust is not None,
        "tls_handshake_first": trust is not None and settings.nats_tls_first,
    }
    if settings.nats_user and passwords is not None:
        return NatsUserPassword(settings.nats_user, cast("str", lambda: passwords()[0]), **tls)
    return NatsSecurity(**tls) if trust is not None else None


def _passwords(settings: BrokerSettings) -> Callable[[], Sequence[str]] | None:
    if (path := settings.nats_password_file) is not None:
        return lambda: passwords_in(path.read_text())
    if settings.nats_user and settings.nats_password is not None:
        given = (settings.nats_password.get_secret_value(),)
        return lambda: given
    return None


def _trust(settings: BrokerSettings) -> Trust | None:
    """None where nothing asks for TLS: neither a certificate nor the broker's URL."""
    wanted = settings.nats_ca or settings.nats_cert or "tls://" in settings.nats_url
    if not wanted:
        return None
    try:
        return Trust(
            settings.nats_ca, settings.nats_cert, settings.nats_key, verify_hostname=settings.nats_verify_hostname
        )
    except ssl.SSLError as error:
        raise ValueError(f"SLUICE_NATS_CA, SLUICE_NATS_CERT, SLUICE_NATS_KEY: {error}") from error
