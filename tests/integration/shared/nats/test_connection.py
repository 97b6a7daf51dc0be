"""The connection's shorter ways for requests and for messages that are taken where they are read."""

import asyncio

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from shared.nats.client import Connection, connect
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
