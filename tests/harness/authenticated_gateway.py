"""A gateway that asks for API keys, and clients of it with keys of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

__all__ = ["ADMIN", "AuthenticatedGateway", "authenticated_gateway"]

ADMIN = "admin-key-of-the-tests-0123456789abcdef"


class AuthenticatedGateway:
    """The gateway, and what its admin does."""

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        self.admin = self.client(ADMIN)

    def client(self, key: str | None) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.process.url, headers=headers, trust_env=False, verify=False, timeout=30)

    def issue(self, tenant: str = "acme", *actions: str, **more: Any) -> dict[str, Any]:
        """A new key, as the API tells it; of all actions but `admin` if none is named."""
        allowed = actions or ("query", "read", "write", "jobs", "system")
        made = self.admin.post(
            "/v1/keys", json={"name": f"key of {tenant}", "tenant": tenant, "actions": allowed, **more}
        )
        assert made.status_code == 201, made.text
        issued: dict[str, Any] = made.json()
        return issued

    def of(self, tenant: str = "acme", *actions: str, **more: Any) -> httpx.Client:
        """A client with a new key, which is in force by now."""
        client = self.client(self.issue(tenant, *actions, **more)["secret"])
        self.until(client, lambda status: status != 401)
        return client

    @staticmethod
    def until(client: httpx.Client, wanted: Any) -> None:
        """Ask until the status is as wanted; only a request that is let in counts against a limit."""
        for _ in range(1000):
            if wanted(client.get("/v1/keys").status_code):
                return
        raise AssertionError("the gateway did not hear of the key")


@contextmanager
def authenticated_gateway(broker: NatsServer, folder: Path, **settings: object) -> Iterator[AuthenticatedGateway]:
    with ServiceProcess("services.gateway", folder, nats_url=broker.url, admin_key=ADMIN, **settings) as process:
        yield AuthenticatedGateway(process)
