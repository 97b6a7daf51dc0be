"""The platform of the manifests as processes: the broker's nodes, the settings and the credentials of each service.

As on a cluster, a service that ends is not started again by anybody but the test.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.harness.broker import BINARY
from tests.harness.manifests import SERVICES, Manifests
from tests.harness.nats_nodes import NatsNode, nodes
from tests.harness.processes import ServiceProcess

__all__ = ["Deployed", "deployed", "pod_settings"]

ELSEWHERE = ("SLUICE_HTTP_HOST", "SLUICE_HTTP_PORT", "SLUICE_METRICS_HOST", "SLUICE_METRICS_PORT")
"""Settings of a container that a process beside others cannot have."""

FREE_PORT = {"SLUICE_GRPC_PORT": "0"}
"""Ports that a container has to itself."""


class Deployed:
    """What runs. `secrets` is the folder that `make secrets` has written."""

    def __init__(self, folder: Path, broker: list[NatsNode], services: dict[str, ServiceProcess]) -> None:
        self.secrets = folder / "secrets"
        self.nodes = broker
        self.services = services
        self.admin_key = (folder / "admin-key").read_text()

    @property
    def url(self) -> str:
        return self.services["gateway"].url

    @property
    def accounts(self) -> str:
        """What the nodes are to be given now."""
        return (self.secrets / "accounts.conf").read_text()


@contextmanager
def deployed(
    manifests: Manifests, folder: Path, *, nats_server: Path = BINARY, **settings: object
) -> Iterator[Deployed]:
    """One replica of each service, all ready, with further settings for all of them."""
    (folder / "admin-key").write_text(secrets.token_hex(32))
    with ExitStack() as stack:
        broker = stack.enter_context(nodes(manifests, folder, nats_server))
        running = {}
        for name in SERVICES:
            given = pod_settings(manifests, name, broker, folder) | settings
            running[name] = ServiceProcess(f"services.{name}", folder / name, **given)
            stack.push(running[name].__exit__)
            running[name].start()
        for process in running.values():
            process.wait_ready()
        yield Deployed(folder, broker, running)


def pod_settings(manifests: Manifests, service: str, broker: Sequence[NatsNode], folder: Path) -> dict[str, object]:
    """What the Pod has in its environment, with the places of this machine instead of the container's."""
    given = manifests.settings(manifests.deployment(service))
    here = {
        "tls://nats:4222": ",".join(node.url for node in broker),
        "/etc/sluice/nats/ca.crt": str(folder / "secrets" / "ca.crt"),
        "/etc/sluice/nats/password": str(folder / "secrets" / f"{service}.password"),
        "/etc/sluice/gateway/admin-key": str(folder / "admin-key"),
        "/var/lib/sluice/index": str(folder / "index"),
    }
    return {
        name.removeprefix("SLUICE_").lower(): here.get(value, value)
        for name, value in (given | {name: port for name, port in FREE_PORT.items() if name in given}).items()
        if name not in ELSEWHERE
    }
