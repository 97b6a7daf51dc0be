"""From where the gateway can be reached, and whether it may be without asking for keys."""

import ipaddress
import logging
import socket
from typing import Final

from services.gateway.settings import GatewaySettings

__all__ = ["check_reach", "is_near"]

log = logging.getLogger(__name__)

NEAR: Final = (".localhost", ".local", ".internal")
"""How names end that nobody can have in the public DNS."""


def check_reach(settings: GatewaySettings) -> None:
    """Say who is let in. Exits with a message where everybody would be, from other machines, and nobody has said so."""
    address = _address(settings)
    if settings.admin_secret is not None:
        log.info("every request needs an API key", extra={"address": address})
        return
    if _is_loopback(address):
        log.warning(
            "no admin key is set: whoever is on this machine may do everything, and nobody else can reach the gateway",
            extra={"address": address},
        )
        return
    if not settings.allow_anonymous:
        raise SystemExit(
            f"gateway: it would listen on {address or 'all addresses'} and let everybody in who reaches it. Set "
            "SLUICE_ADMIN_KEY (or SLUICE_ADMIN_KEY_FILE) to ask for API keys; make one with: openssl rand -hex 32. "
            "Or set SLUICE_ALLOW_ANONYMOUS=true where something else keeps strangers out."
        )
    log.warning("whoever reaches %s may do everything: anonymous requests are allowed", address)


def is_near(host: str) -> bool:
    """Whether a Host header names this machine or its network, and no site on the internet.

    A page may let the name of its own site mean 127.0.0.1 (DNS rebinding): for its browser this is then the same site.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.strip("[]").rstrip(".").lower()
    if "." not in name or name.endswith(NEAR):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _address(settings: GatewaySettings) -> str:
    """Where the HTTP port listens; a path for a socket in the file system."""
    if settings.http_fd is None:
        return settings.http_host
    with socket.fromfd(settings.http_fd, socket.AF_INET, socket.SOCK_STREAM) as listening:
        name = listening.getsockname()
    return str(name[0] if isinstance(name, tuple) else name)


def _is_loopback(address: str) -> bool:
    if address == "localhost" or address.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
