"""The life of a service process: what it waits for, what it survives, and how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from shared.contracts.events import Result
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import PATIENCE, StageHarness, listening, open_stage_harness, until

pytestmark = pytest.mark.anyio

Start = Callable[..., ServiceProcess]
"""Start a stage process on the broker at a URL; the keywords are its settings."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(url: str, **settings: object) -> ServiceProcess:
            chosen = {"nats_url": url, "ack_wait": 1.0} | settings
            process = ServiceProcess("tests.harness.programs.stage", tmp_path, **chosen)
            stack.push(process.__exit__)
            process.start()
            return process

        yield start


async def answers(process: ServiceProcess, page: str, code: int) -> None:
    """Wait until a page answers with a status."""

    async def answered() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(process.url + page)).status_code == code
        except httpx.TransportError:
            return False

    await until(answered, f"{code} from {page} of {process.log}")


async def says(process: ServiceProcess, text: str) -> None:
    async def said() -> bool:
        return text in process.log

    await until(said, text)


async def connected(harness: StageHarness) -> bool:
    return harness.client.is_connected


async def ask(harness: StageHarness) -> None:
    assert isinstance((await harness.ask(harness.query("work")))[-1], Result)


async def test_a_service_without_its_broker_lives_is_not_ready_and_becomes_ready_when_it_comes(
    tmp_path: Path, start: Start
) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    server.kill()  # its port is known now, and it will come back to it
    service = start(server.url)
    await answers(service, "/livez", 200)
    await answers(service, "/readyz", 503)
    with server:
        await answers(service, "/readyz", 200)
        async with open_stage_harness(server.url) as harness:
            await ask(harness)


async def test_a_service_whose_broker_was_killed_and_restarted_works_again_on_new_queries(
    broker: NatsServer, start: Start
) -> None:
    service = start(broker.url)
    await answers(service, "/readyz", 200)
    async with open_stage_harness(broker.url) as harness:
        await ask(harness)
        for _ in range(2):
            broker.kill(signal.SIGKILL)
            await answers(service, "/readyz", 503)
            await answers(service, "/livez", 200)
            broker.start()
            await answers(service, "/readyz", 200)
            await until(lambda: connected(harness))
            await ask(harness)
            assert (await harness.queue("work")).num_waiting >= 1


async def test_work_in_flight_when_the_broker_is_restarted_ends_and_the_worker_has_all_its_room_again(
    broker: NatsServer, start: Start
) -> None:
    service = start(broker.url, room=2)
    await answers(service, "/readyz", 200)
    async with open_stage_harness(broker.url) as harness:
        async with listening(harness.client) as said:
            held = [await harness.submit(harness.query("work", "second", question="hold")) for _ in range(2)]
            for _ in held:
                await said.next("started")
        broker.kill()
        await answers(service, "/readyz", 503)
        broker.start()
        await answers(service, "/readyz", 200)
        await until(lambda: connected(harness))
        async with listening(harness.client) as said:

            async def both_forwarded() -> bool:
                # The worker may not listen again yet when it is told for the first time.
                for query in held:
                    await said.go(query)
                return await harness.stored("query.second.>") == 2

            await until(both_forwarded)
        await asyncio.gather(*(ask(harness) for _ in range(20)))


async def test_sigterm_ends_a_service_that_never_found_its_broker(tmp_path: Path, start: Start) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    server.kill()
    service = start(server.url)
    await answers(service, "/livez", 200)
    assert await asyncio.to_thread(service.stop, PATIENCE) == 0, service.log
    assert "cannot go on" not in service.log


async def test_sigterm_ends_a_service_whose_broker_is_away(tmp_path: Path, start: Start) -> None:
    with NatsServer(tmp_path / "nats") as server:
        service = start(server.url)
        await answers(service, "/readyz", 200)
    await answers(service, "/readyz", 503)
    assert await asyncio.to_thread(service.stop, PATIENCE) == 0, service.log
    assert "Traceback" not in service.log


async def test_sigterm_ends_a_service_that_is_still_loading_its_model_in_a_thread(
    broker: NatsServer, start: Start
) -> None:
    service = start(broker.url, loading="in a thread for ever")
    await answers(service, "/readyz", 503)
    async with httpx.AsyncClient(trust_env=False) as http:

        async def loading() -> bool:
            return "loading" in (await http.get(service.url + "/readyz")).json()["detail"]

        await until(loading)
    assert await asyncio.to_thread(service.stop, PATIENCE) == 0, service.log
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"loading": "fails"}, "the model is not there"),
        ({"canary": "fail"}, "not repaired yet"),
        ({"replicas": 3}, "replicas > 1 not supported in non-clustered mode"),
    ],
    ids=["its setup fails", "its canary fails", "the broker refuses the topology"],
)
async def test_a_service_that_cannot_start_says_why_and_exits_with_1(
    broker: NatsServer, start: Start, settings: dict[str, object], reason: str
) -> None:
    service = start(broker.url, **settings)
    assert await asyncio.to_thread(service.wait, PATIENCE) == 1
    assert "the service cannot go on" in service.log
    assert reason in service.log


async def test_a_service_whose_credentials_are_refused_says_so_and_exits_with_1(tmp_path: Path, start: Start) -> None:
    with NatsServer(tmp_path / "nats", "--user", "sluice", "--pass", "right") as server:
        service = start(server.url, nats_user="sluice", nats_password="wrong")
        assert await asyncio.to_thread(service.wait, PATIENCE) == 1
        assert "the service cannot go on" in service.log
        assert "Authorization Violation" in service.log
        right = start(server.url, nats_user="sluice", nats_password="right")
        await answers(right, "/readyz", 200)


async def test_a_service_whose_password_is_refused_after_a_good_connection_lives_and_works_once_it_has_the_new_one(
    tmp_path: Path, start: Start
) -> None:
    """As where a node of the broker knows a new password before its file has reached the service."""
    password = tmp_path / "password"
    password.write_text("old")
    server = NatsServer(tmp_path / "nats", "--user", "sluice", "--pass", "old")
    with server:
        service = start(server.url, nats_user="sluice", nats_password_file=password)
        await answers(service, "/readyz", 200)
        server.kill()
        server._options = ("--user", "sluice", "--pass", "new")
        server.start()
        await says(service, "the broker refuses the password of 'sluice': it is read again at each try")
        await answers(service, "/livez", 200)
        await answers(service, "/readyz", 503)
        password.write_text("new")
        await answers(service, "/readyz", 200)
        async with open_stage_harness(server.url.replace("//", "//sluice:new@")) as harness:
            await ask(harness)
        assert service.log.count("refuses the password") == 1, service.log
        assert "cannot go on" not in service.log


async def test_a_user_whose_password_is_changed_by_a_reload_connects_with_the_next_one(
    tmp_path: Path, start: Start
) -> None:
    """A reload cuts the connections of that user. Its file has both passwords by then."""
    password, conf = tmp_path / "password", tmp_path / "nats.conf"
    password.write_text("old\nnew\n")
    conf.write_text('authorization { users: [{user: sluice, password: old}, {user: other, password: "x"}] }\n')
    with NatsServer(tmp_path / "nats", "-c", str(conf)) as server:
        service = start(server.url, nats_user="sluice", nats_password_file=password)
        await answers(service, "/readyz", 200)
        conf.write_text('authorization { users: [{user: sluice, password: new}, {user: other, password: "x"}] }\n')
        os.kill(server.pid, signal.SIGHUP)
        await says(service, "connected to the broker again")
        await answers(service, "/readyz", 200)
        async with open_stage_harness(server.url.replace("//", "//sluice:new@")) as harness:
            await ask(harness)


async def test_a_lost_broker_is_logged_once_and_not_at_every_try(tmp_path: Path, start: Start) -> None:
    with NatsServer(tmp_path / "nats") as server:
        service = start(server.url)
        await answers(service, "/readyz", 200)
    await answers(service, "/readyz", 503)
    await says(service, "ConnectionRefusedError")
    assert await asyncio.to_thread(service.stop, PATIENCE) == 0
    assert service.log.count("ConnectionRefusedError") == 1


async def test_five_processes_may_make_the_topology_at_once(broker: NatsServer, start: Start) -> None:
    services = [start(broker.url, instance=f"w{number}", stage=f"stage-{number}") for number in range(5)]
    for service in services:
        await answers(service, "/readyz", 200)
    async with open_stage_harness(broker.url) as harness:
        names = {info.name for info in await harness.jetstream.consumers_info("QUERIES")}
        assert names == {f"stage-{n}_default_{lane}" for n in range(5) for lane in ("interactive", "batch")}


def test_the_settings_are_printed_with_their_values_and_meanings_and_secrets_stay_hidden() -> None:
    command = [sys.executable, "-m", "tests.harness.programs.stage", "--settings"]
    printed = subprocess.run(
        command,
        env={"SLUICE_NATS_PASSWORD": "hush", "SLUICE_ACK_WAIT": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "hush" not in printed
    assert any(line.split()[:2] == ["SLUICE_ACK_WAIT", "7.0"] for line in printed.splitlines())
