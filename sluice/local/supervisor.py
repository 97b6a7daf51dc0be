"""Runs the broker and the services until told to stop, and leaves nothing behind."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from sluice.local.broker import Broker
from sluice.local.environment import broker_environment
from sluice.local.format import check_format
from sluice.local.guard import Guard
from sluice.local.logs import follow, tail
from sluice.local.member import FailedToStartError, Launch, Member, State
from sluice.local.private import make_private
from sluice.local.probe import HttpProbe
from sluice.local.sockets import listen, url_of
from sluice.local.spec import LocalSettings, ServiceSpec, Wave, default_services
from sluice.local.state import FolderLock, ServiceState, UpState, process_started, rotate_log
from sluice.local.view import View

__all__ = ["run"]

BROKER_PATIENCE = 10.0


def run(settings: LocalSettings, view: View, specs: Sequence[ServiceSpec] | None = None) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; the exit status: 0, 1 where a service does not start, 130 when forced.

    Raises `FolderInUseError`, `PortTakenError`, `BrokerMissingError`, `DiskFullError`, `FormatError` or `OSError`
    before anything was started. The socket, the lock and the guard live as long as the call. `settings.data` must be
    absolute.
    """
    chosen = tuple(
        specs
        if specs is not None
        else default_services(settings.host, settings.port, models=settings.models is not None)
    )
    make_private(settings.data)
    settings.logs.mkdir(exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context(FolderLock(settings.data))
        check_format(settings.data)
        broker = Broker(settings.data)
        listeners = {spec.name: stack.enter_context(listen(spec.host, spec.port)) for spec in chosen}
        broker.prepare()
        for name in (*listeners, "nats"):
            rotate_log(settings.logs / f"{name}.log")
        guard = Guard(lock.fd)
        stack.callback(guard.close)
        stack.callback(broker.forget)
        stack.callback(UpState.remove, settings.data)
        supervisor = _Supervisor(settings, view, guard, broker)
        return asyncio.run(supervisor.run(chosen, listeners))


class _StopRequested(Exception):  # noqa: N818  (an event, not an error)
    """Ends the task group that keeps the members."""


class _Supervisor:
    def __init__(self, settings: LocalSettings, view: View, guard: Guard, broker: Broker) -> None:
        self._settings = settings
        self._view = view
        self._guard = guard
        self._broker = broker
        self._asked = asyncio.Event()
        self._forced = False
        self._announced = False
        self._members: list[Member] = []
        self._started = process_started(os.getpid())

    async def run(self, specs: Sequence[ServiceSpec], listeners: dict[str, socket.socket]) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        self._members = [self._nats(), *(self._service(spec, listeners[spec.name]) for spec in specs)]
        self._view.starting(self._members, self._settings.data)
        try:
            failure = await self._keep_all()
        finally:
            began = time.monotonic()
            await self._stop_all()
        if failure is not None:
            self._view.failed(failure.name, failure.reason, failure.log, tail(failure.log, start=failure.log_start))
            return 1
        self._view.stopped(time.monotonic() - began, forced=self._forced)
        return 130 if self._forced else 0

    async def _keep_all(self) -> FailedToStartError | None:
        """Keep every member running until asked to stop (None), or until one of them fails to start."""
        failure: FailedToStartError | None = None
        nats, *services = self._members
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._until_asked())
                if self._settings.verbose:
                    logs = {member.name: member.launch.log for member in self._members}
                    group.create_task(follow(logs, self._view.log_line))
                group.create_task(nats.keep())
                await nats.was_ready.wait()
                for service in services:
                    group.create_task(service.keep())
        except* _StopRequested:
            pass
        except* FailedToStartError as errors:
            first = errors.exceptions[0]
            assert isinstance(first, FailedToStartError)
            failure = first
        return failure

    async def _until_asked(self) -> None:
        await self._asked.wait()
        self._view.stopping()
        raise _StopRequested

    async def _stop_all(self) -> None:
        for wave in sorted({member.launch.wave for member in self._members}):
            patience = BROKER_PATIENCE if wave == Wave.BROKER else self._settings.drain_seconds
            async with asyncio.TaskGroup() as group:
                for member in self._members:
                    if member.launch.wave == wave:
                        group.create_task(member.stop(patience))

    def _on_signal(self) -> None:
        if self._asked.is_set():
            self._forced = True
            for member in self._members:
                member.kill()
        self._asked.set()

    def _nats(self) -> Member:
        launch = Launch(
            name="nats",
            command=self._broker.argv,
            environment=lambda: broker_environment(os.environ),
            probe=self._broker.probe,
            log=self._settings.logs / "nats.log",
            wave=Wave.BROKER,
            url="nats://127.0.0.1",
            gentle=True,
        )
        return Member(launch=launch, guard=self._guard, changed=self._changed)

    def _service(self, spec: ServiceSpec, listener: socket.socket) -> Member:
        url = url_of(listener)
        launch = Launch(
            name=spec.name,
            command=lambda: spec.argv,
            environment=lambda: self._settings.environment(spec.name, os.environ, self._broker),
            probe=HttpProbe(url),
            log=self._settings.logs / f"{spec.name}.log",
            wave=spec.wave,
            url=url,
            listener=listener,
        )
        return Member(launch=launch, guard=self._guard, changed=self._changed)

    def _changed(self, member: Member, line: str | None) -> None:
        self._view.changed(member, line)
        ready = all(other.state is State.READY for other in self._members)
        self._record(ready=ready)
        if ready and not self._announced:
            self._announced = True
            self._view.ready(self._public_url)

    @property
    def _public_url(self) -> str:
        urls = {member.name: member.launch.url for member in self._members}
        return urls.get("gateway", self._members[-1].launch.url)

    def _record(self, *, ready: bool) -> None:
        services = {
            member.name: ServiceState(
                url=self._broker.url or member.launch.url if member.name == "nats" else member.launch.url,
                state=member.state.value,
                pid=member.pid,
                restarts=member.restarts,
            )
            for member in self._members
        }
        state = UpState(
            pid=os.getpid(),
            started=self._started,
            url=self._public_url,
            nats_url=self._broker.full_url,
            ready=ready,
            services=services,
        )
        with suppress(OSError):  # a full disk must not end what still runs
            state.write(self._settings.data)
