"""The connection's shorter ways for requests and for messages that are taken where they are read."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from shared.nats.client import FIRST_PAUSE, LONGEST_PAUSE, Connection, Pauses, connect
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import PATIENCE, settle, until

pytestmark = pytest.mark.anyio


async def echo(message: Msg) -> None:
    await message.respond(message.data)


async def test_many_requests_at_once_each_get_their_own_answer(broker: NatsServer) -> None:
    connection = await connect(broker.url)
    await connection.subscribe("echo", cb=echo)
    asked = [str(number).encode() for number in range(500)]
    answers = await asyncio.gather(*(connection.request("echo", data, timeout=PATIENCE) for data in asked))
    assert [answer.data for answer in answers] == asked
    assert not connection._resp_map
    await connection.close()


async def test_a_request_without_an_answer_ends_in_time_and_leaves_nothing_behind(broker: NatsServer) -> None:
    connection = await connect(broker.url)
    await connection.subscribe("silent")
    with pytest.raises(NatsTimeout):
        await connection.request("silent", timeout=0.01)
    with pytest.raises(NoRespondersError):
        await connection.request("nobody", timeout=PATIENCE)
    waiting = asyncio.create_task(connection.request("silent", timeout=PATIENCE))
    await settle(connection)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not connection._resp_map
    await connection.close()


async def test_a_listener_gets_what_is_sent_in_order_with_headers_until_it_unsubscribes(broker: NatsServer) -> None:
    connection = await connect(broker.url)
    heard: list[tuple[str, bytes, dict[str, str] | None]] = []
    subscription = await connection.listen(
        "told.*", lambda message: heard.append((message.subject, message.data, message.headers))
    )
    for number in range(100):
        await connection.publish(f"told.{number}", str(number).encode(), headers={"n": str(number)})
    await settle(connection)
    assert heard == [(f"told.{n}", str(n).encode(), {"n": str(n)}) for n in range(100)]
    await subscription.unsubscribe()
    await connection.publish("told.more", b"")
    await settle(connection)
    assert len(heard) == 100
    assert not connection._takers
    await connection.close()


async def test_a_listener_that_fails_is_told_of_and_the_connection_reads_on(broker: NatsServer) -> None:
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    connection = await connect(broker.url, error_cb=note)
    await connection.listen("numbers", lambda message: heard.append(int(message.data)))
    heard: list[int] = []
    for data in (b"1", b"two", b"3"):
        await connection.publish("numbers", data)
    await settle(connection)
    assert heard == [1, 3]
    assert [type(error) for error in errors] == [ValueError]
    await connection.close()


async def test_requests_and_listeners_work_again_after_the_broker_was_away(broker: NatsServer) -> None:
    async def quiet(_: Exception) -> None:
        """A broker that a test has killed is no news."""

    connection: Connection = await connect(
        broker.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=quiet
    )
    heard: list[bytes] = []
    await connection.subscribe("echo", cb=echo)
    await connection.listen("told", lambda message: heard.append(message.data))
    assert (await connection.request("echo", b"before", timeout=PATIENCE)).data == b"before"
    broker.kill()
    broker.start()

    async def back() -> bool:
        return bool(connection.stats["reconnects"] and connection.is_connected)

    await until(back, "the reconnection")
    assert (await connection.request("echo", b"after", timeout=PATIENCE)).data == b"after"
    await connection.publish("told", b"after")
    await settle(connection)
    assert heard == [b"after"]
    await connection.close()


async def quiet(_: Exception) -> None:
    """What the broker refuses is what these tests are about."""


async def test_a_connection_that_the_broker_ends_with_an_error_is_made_again(broker: NatsServer) -> None:
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    connection = await connect(broker.url, max_reconnect_attempts=-1, error_cb=note)
    await connection.subscribe("echo", cb=echo)
    connection._transport.write(b"RUBBISH\r\n")
    await until(lambda: _reconnected(connection, 1), "the reconnection")
    assert any("unknown protocol operation" in error for error in errors), errors
    assert (await connection.request("echo", b"after", timeout=PATIENCE)).data == b"after"
    await connection.close()


async def _reconnected(connection: Connection, times: int) -> bool:
    return bool(connection.stats["reconnects"] == times and connection.is_connected)


async def test_each_password_is_shown_until_one_is_accepted(tmp_path: Path) -> None:
    """While passwords are being changed, nodes of one broker differ in which of them they take."""
    shown = ["old", "new"]
    server = NatsServer(tmp_path / "nats", "--user", "me", "--pass", "old")
    with server:
        connection = await connect(
            server.url, user="me", passwords=lambda: shown, max_reconnect_attempts=-1, error_cb=quiet
        )
        for password in ("new", "newest", "new", "newest"):
            server.kill()
            server._options = ("--user", "me", "--pass", password)
            shown[:] = ["new", "newest"]
            before = connection.stats["reconnects"]
            server.start()
            await until(lambda before=before: _reconnected(connection, before + 1), f"that {password} is accepted")
        await connection.close()


async def test_a_refused_connection_goes_on_trying_until_there_is_a_password_that_is_accepted(tmp_path: Path) -> None:
    shown, refusals = ["old"], []

    async def note(error: Exception) -> None:
        refusals.append(str(error))

    server = NatsServer(tmp_path / "nats", "--user", "me", "--pass", "old")
    with server:
        connection = await connect(
            server.url, user="me", passwords=lambda: shown, max_reconnect_attempts=-1, error_cb=note
        )
        server.kill()
        server._options = ("--user", "me", "--pass", "new")
        server.start()

        async def refused_again_and_again() -> bool:
            return sum("Authorization Violation" in refusal for refusal in refusals) > 2

        await until(refused_again_and_again, "some refusals")
        shown[:] = ["new"]
        await until(lambda: _reconnected(connection, 1), "the reconnection")
        await connection.close()


async def test_a_broken_source_of_passwords_does_not_end_the_tries(tmp_path: Path) -> None:
    asked = 0

    def passwords() -> list[str]:
        nonlocal asked
        asked += 1
        if asked in (2, 3):
            raise ValueError("half a file")
        return ["right"]

    with NatsServer(tmp_path / "nats", "--user", "me", "--pass", "right") as server:
        connection = await connect(
            server.url, user="me", passwords=passwords, max_reconnect_attempts=-1, error_cb=quiet
        )
        server.kill()
        server.start()
        await until(lambda: _reconnected(connection, 1), "the reconnection")
        assert asked == 4
        await connection.close()


def test_pauses_grow_to_a_bound_differ_and_begin_anew_after_a_lasting_connection() -> None:
    now = 0.0
    pauses = Pauses(clock=lambda: now)
    seconds = [pauses.next() for _ in range(20)]
    for number, pause in enumerate(seconds):
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**number)
        assert longest / 2 <= pause <= longest
    assert len(set(seconds)) == 20
    pauses.connected()
    now += 1
    assert pauses.next() >= LONGEST_PAUSE / 2, "it was lost at once"
    pauses.connected()
    now += 60
    assert pauses.next() <= FIRST_PAUSE


async def test_a_connection_that_breaks_while_it_is_closed_is_closed(broker: NatsServer) -> None:
    closed = asyncio.Event()

    async def told() -> None:
        closed.set()

    connection = await connect(broker.url, closed_cb=told)
    subscription = await connection.subscribe("echo", cb=echo)
    await settle(connection)
    transport: Any = connection._transport
    transport._io_writer.transport.abort()
    await asyncio.sleep(0)  # the loop notices, and the connection's own tasks do not yet
    await connection.publish("unsent", b"")
    await connection.close()
    assert connection.is_closed
    assert closed.is_set()
    assert subscription._wait_for_msgs_task is not None
    await asyncio.wait([subscription._wait_for_msgs_task], timeout=PATIENCE)
    assert subscription._wait_for_msgs_task.done()
