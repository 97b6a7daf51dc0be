"""From where the gateway can be reached, and whether that needs API keys."""

import ipaddress
import logging
import socket
from typing import Final

from services.gateway.settings import GatewaySettings

__all__ = ["check_exposure", "is_local_host", "is_same_origin", "listening_address", "name_of"]

log = logging.getLogger(__name__)

LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")
"""Endings of names that the public DNS never resolves."""


def check_exposure(settings: GatewaySettings) -> None:
    """Log who has access. Exits with a message where anyone on other machines would have it unintentionally."""
    address = listening_address(settings)
    if settings.admin_secret is not None:
        log.info("every request needs an API key", extra={"address": address})
        return
    if _is_loopback(address):
        log.warning(
            "no admin key is set: processes on this machine may do everything, other machines cannot reach the gateway",
            extra={"address": address},
        )
        return
    if not settings.allow_anonymous:
        raise SystemExit(
            f"gateway: it would listen on {address or 'all addresses'} and serve anyone who reaches it. Set "
            "SLUICE_ADMIN_KEY (or SLUICE_ADMIN_KEY_FILE) to require API keys; make one with: openssl rand -hex 32. "
            "Or set SLUICE_ALLOW_ANONYMOUS=true where something else controls access."
        )
    log.warning("anyone who reaches %s may do everything: anonymous requests are allowed", address)


def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine or its network, and not a site on the internet.

    A site can resolve its own name to 127.0.0.1 (DNS rebinding). The browser then takes the gateway for that site.
    """
    name = name_of(host)
    if "." not in name or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def name_of(host: str) -> str:
    """The name or address in a Host header, without its port, in small letters."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.startswith("::") else host
    return name.strip("[]").rstrip(".").lower()


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page of this Origin was served under this Host header. "null" is the origin of no page of ours."""
    scheme, _, place = origin.lower().partition("://")
    port = {"http": ":80", "https": ":443"}.get(scheme)
    return port is not None and place.removesuffix(port) == host.lower().removesuffix(port)


def listening_address(settings: GatewaySettings) -> str:
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
