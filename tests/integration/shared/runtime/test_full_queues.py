"""Promise 4: a full queue is refused, is waited for briefly, and is full for one tenant only."""

import asyncio

import pytest

from shared.contracts.envelope import Query
from shared.contracts.events import Failed, Result
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.forward import forward
from shared.runtime.options import RuntimeOptions
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import Gate, StageHarness, open_stage_harness, outcomes

pytestmark = pytest.mark.anyio


async def shout(query: Query, context: Context) -> Query:
    return query.model_copy(update={"question": query.question.upper()})


async def test_a_full_queue_is_a_problem_that_says_when_to_try_again(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, queue_limit=3) as harness:
        for _ in range(3):
            await harness.submit(harness.query("work"))
        with pytest.raises(Problem) as caught:
            await harness.submit(harness.query("work"))
        assert caught.value.kind is ProblemType.QUEUE_FULL
        assert caught.value.headers == {"Retry-After": "1"}


async def test_forwarding_waits_for_room_as_long_as_its_patience_lasts(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, queue_limit=1) as harness:
        gate = Gate()
        await harness.submit(harness.query("work"))
        waits = asyncio.create_task(
            forward(harness.jetstream, harness.topology, harness.query("work"), room_timeout=30.0)
        )
        async with harness.working(gate, room=2):
            await gate.next()
            gate.open()
            await waits
            await gate.next()


async def test_the_flood_of_one_tenant_leaves_room_for_another(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, queue_limit=5) as harness:
        for _ in range(5):
            await harness.submit(harness.query("work", tenant="loud"))
        with pytest.raises(Problem):
            await harness.submit(harness.query("work", tenant="loud"))
        calm = await harness.submit(harness.query("work", tenant="calm"))
        gate = Gate()
        gate.open()
        async with harness.working(gate):
            assert calm.id in [(await gate.next()).id for _ in range(6)]


async def test_a_stage_whose_next_queue_stays_full_reports_it_to_the_reader(broker: NatsServer) -> None:
    runtime = RuntimeOptions(forward_timeout=0.1)
    async with (
        open_stage_harness(broker.url, queue_limit=1) as harness,
        harness.working(shout, "shout", runtime=runtime),
    ):
        await harness.submit(harness.query("next"))
        *_, end = await harness.ask(harness.query("shout", "next"))
        assert isinstance(end, Failed)
        assert (end.problem.type, end.stage) == (ProblemType.QUEUE_FULL.uri, "shout")
        await harness.empty("shout")


async def test_work_that_waits_for_a_full_queue_leaves_half_of_the_room_to_other_tenants(broker: NatsServer) -> None:
    runtime = RuntimeOptions(forward_timeout=600.0)
    async with (
        open_stage_harness(broker.url, queue_limit=4) as harness,
        harness.working(shout, "shout", room=4, runtime=runtime),
    ):
        for _ in range(4):
            await harness.submit(harness.query("next", tenant="loud"))
        for _ in range(4):
            await harness.submit(harness.query("shout", "next", tenant="loud"))
        *_, end = await harness.ask(harness.query("shout", tenant="calm"))
        assert isinstance(end, Result)


async def test_the_broker_bounds_the_bytes_of_all_queues_together(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, queue_bytes=2**20) as harness:
        for number in range(3):
            await harness.submit(harness.query("work", tenant=f"t{number}", question="x" * 300_000))
        with pytest.raises(Problem) as caught:
            await harness.submit(harness.query("work", tenant="t3", question="x" * 300_000))
        assert caught.value.kind is ProblemType.QUEUE_FULL


@pytest.mark.parametrize("beyond", [-16_000, -300, 0, 100_000])
async def test_an_envelope_that_outgrew_the_brokers_limit_is_a_problem_and_the_connection_lives(
    harness: StageHarness, beyond: int
) -> None:
    async def grow(query: Query, context: Context) -> Query:
        if query.question != "grow":
            return query
        empty = len(query.model_copy(update={"question": ""}).encode())
        return query.model_copy(update={"question": "x" * (harness.client.max_payload + beyond - empty)})

    async with harness.working(grow, "grow"):
        *_, end = await harness.ask(harness.query("grow", "next", question="grow"))
        assert isinstance(end, Failed)
        assert end.problem.type == ProblemType.TOO_LARGE.uri
        *_, end = await harness.ask(harness.query("grow"))
        assert isinstance(end, Result)
    assert outcomes("grow", "retried") == 0


async def test_a_result_that_outgrew_the_brokers_limit_is_a_problem_and_the_connection_lives(
    harness: StageHarness,
) -> None:
    async def grow(query: Query, context: Context) -> Query:
        return query.model_copy(update={"question": "x" * int(query.question)})

    async with harness.working(grow, "vast"):
        *_, end = await harness.ask(harness.query("vast", question="2000000"))
        assert isinstance(end, Failed)
        assert end.problem.type == ProblemType.TOO_LARGE.uri
        *_, end = await harness.ask(harness.query("vast", question="1"))
        assert isinstance(end, Result)
