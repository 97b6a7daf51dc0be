"""Who a process is to the broker: its user, its inbox, its part in the topology, and what it trusts (TLS)."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from faststream.nats.security import NatsSecurity, NatsUserPassword

from shared.nats.settings import BrokerSettings
from shared.nats.subjects import EVERYTHING, StreamOwnership
from shared.security.roles import inbox_prefix, role_of

__all__ = ["Credentials"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`name` is for messages to people. `options` are those of a connection."""

    name: str
    ownership: StreamOwnership
    options: dict[str, Any]

    @classmethod
    def of(cls, settings: BrokerSettings) -> "Credentials":
        """Without a user, or with one that is no role of Sluice's, a process may make everything.

        Raises ValueError for a role that does not exist and for certificates that cannot be used.
        """
        role = role_of(settings.nats_role or settings.nats_user or "")
        if settings.nats_role and role is None:
            raise ValueError(f"SLUICE_NATS_ROLE: there is no role '{settings.nats_role}', see docs/broker.md")
        options: dict[str, Any] = {"security": _security(settings)}
        if role is not None:
            options["inbox_prefix"] = inbox_prefix(role.name)
        return cls(
            name=settings.nats_user or "anonymous",
            ownership=role.ownership if role is not None else StreamOwnership(makes=EVERYTHING),
            options=options,
        )


def _security(settings: BrokerSettings) -> NatsSecurity | None:
    context = _tls(settings)
    tls: dict[str, Any] = {
        "ssl_context": context,
        "use_ssl": context is not None,
        "tls_handshake_first": context is not None and settings.nats_tls_first,
    }
    if settings.nats_user and (password := _password(settings)) is not None:
        return NatsUserPassword(settings.nats_user, cast("str", password), **tls)
    return NatsSecurity(**tls) if context is not None else None


def _password(settings: BrokerSettings) -> str | Callable[[], str] | None:
    if (path := settings.nats_password_file) is not None:
        # Read at each connection, so that a new password needs no restart.
        return lambda: path.read_text().strip()
    return settings.nats_password.get_secret_value() if settings.nats_password is not None else None


def _tls(settings: BrokerSettings) -> ssl.SSLContext | None:
    """None where nothing asks for TLS: neither a certificate nor the broker's URL."""
    wanted = settings.nats_ca or settings.nats_cert or "tls://" in settings.nats_url
    if not wanted:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.nats_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = settings.nats_verify_hostname
        if settings.nats_cert is not None:
            context.load_cert_chain(settings.nats_cert, settings.nats_key)
    except ssl.SSLError as error:
        raise ValueError(f"SLUICE_NATS_CA, SLUICE_NATS_CERT, SLUICE_NATS_KEY: {error}") from error
    return context
