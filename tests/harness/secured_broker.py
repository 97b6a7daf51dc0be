"""A broker that knows its users, and the services on it, each with a credential of its own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from shared.security.broker_config import write_secrets
from shared.security.roles import Deployment, inbox_prefix
from tests.harness.broker import NatsServer
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess

__all__ = ["SERVICES", "SecuredBroker", "Platform", "secured_broker", "secured_platform"]

SERVICES = ("gateway", "embedder", "retriever", "generator", "predictor", "scheduler")


class SecuredBroker:
    """nats-server with the users that `shared.security.broker_config` has written into a folder."""

    def __init__(self, folder: Path, server: NatsServer) -> None:
        self.secrets = folder / "secrets"
        self.server = server

    def settings(self, user: str) -> dict[str, object]:
        """What a service's process is given to be this user."""
        password = self.secrets / f"{user}.password"
        return {"nats_url": self.server.url, "nats_user": user, "nats_password_file": password}

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator["PermissionProbe"]:
        """A bare connection as this user, as somebody has who stole its password."""
        probe = PermissionProbe()
        password = (self.secrets / f"{user}.password").read_text()
        prefix = "_INBOX" if user == "admin" else inbox_prefix(user)
        probe.client = await nats.connect(
            self.server.url, user=user, password=password, inbox_prefix=prefix, error_cb=probe.note
        )
        try:
            yield probe
        finally:
            await probe.client.close()


class PermissionProbe:
    """Tries doors. `refusals` are what the broker did not allow, in its own words."""

    client: Client

    def __init__(self) -> None:
        self.refusals: list[str] = []

    async def note(self, error: Exception) -> None:
        self.refusals.append(str(error))

    async def may_publish(self, subject: str) -> bool:
        self.refusals.clear()
        await self.client.publish(subject, b"{}", reply=self.client.new_inbox())
        return not await self._refused()

    async def may_subscribe(self, subject: str) -> bool:
        self.refusals.clear()
        subscription = await self.client.subscribe(subject)
        refused = await self._refused()
        if not refused:
            await subscription.unsubscribe()
        return not refused

    async def _refused(self) -> bool:
        # The broker answers in order: what it had to say about the subject comes before its answer to the second ping.
        await self.client.flush()
        await self.client.flush()
        return any("permissions violation" in refusal for refusal in self.refusals)


@contextmanager
def secured_broker(folder: Path, roles: Deployment | None = None) -> Iterator[SecuredBroker]:
    folder.mkdir(parents=True, exist_ok=True)
    write_secrets(folder / "secrets", roles or Deployment())
    with NatsServer(folder / "nats", "-c", str(folder / "secrets" / "accounts.conf")) as server:
        yield SecuredBroker(folder, server)


class Platform:
    """The service processes by name. `settings` are further ones, for all of them."""

    def __init__(self, broker: SecuredBroker, folder: Path, **settings: object) -> None:
        self.broker = broker
        shared = {
            "data_dir": folder / "data",
            "ack_wait": 1.0,
            "reader_workers": 1,
            "commands": "process",
            "keep_answers": True,
            "model_repository": folder / "models",
            **settings,
        }
        write_doubler(folder / "models" / "doubler" / "1")
        self.processes = {
            name: ServiceProcess(f"services.{name}", folder, **shared, **broker.settings(name)) for name in SERVICES
        }

    @property
    def url(self) -> str:
        return self.processes["gateway"].url

    @property
    def violations(self) -> list[str]:
        """The lines of all logs in which the broker refuses something."""
        logs = (process.log for process in self.processes.values())
        lines = [line for log in logs for line in log.splitlines()]
        return [line for line in lines if "does not let the user" in line or "ermissions violation" in line]


@contextmanager
def secured_platform(broker: SecuredBroker, folder: Path, **settings: object) -> Iterator[Platform]:
    """All services, started at once: in whatever order they come up, each waits for what others make."""
    platform = Platform(broker, folder, **settings)
    with ExitStack() as stack:
        for process in platform.processes.values():
            stack.push(process.__exit__)
            process.start()
        for process in platform.processes.values():
            process.wait_ready()
        yield platform
