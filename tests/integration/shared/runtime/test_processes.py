"""Promises 3, 5 and 7 with real processes and real signals."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import yaml
from nats.aio.msg import Msg

from shared.contracts.envelope import Query
from shared.contracts.events import Delta, Failed, Progress, Result, decode_event
from shared.contracts.graphs import resolved
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.problems import ProblemType
from shared.runtime.stage import Context
from shared.stores.dead_letters import DeadLetters
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import PATIENCE, ReplyRecorder, StageHarness, listening, until

pytestmark = pytest.mark.anyio

GRAPH = """
- {loop: [work], times: 3}
- switch: [{when: "question == ''", then: [{fallback: [work, work], otherwise: [other]}]}]
- splitter: [{weight: 1, then: [work]}, {weight: 1, then: [work, work]}]
- ensemble:
    - {name: one, then: [work]}
    - {name: two, then: [work, work]}
    - {name: three, then: [{ensemble: [{name: in, then: [work]}, {name: out, then: [work]}], quorum: 1, early: true}]}
- collect
"""

Start = Callable[..., ServiceProcess]
"""Start a stage process under a name; the keywords are its settings."""


@pytest.fixture
def start(broker: NatsServer, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(instance: str, *, wait: bool = True, **settings: object) -> ServiceProcess:
            settings = {"nats_url": broker.url, "ack_wait": 1.0, "instance": instance} | settings
            process = ServiceProcess("tests.harness.programs.stage", tmp_path / instance, **settings)
            stack.push(process.__exit__)
            process.start()
            if wait:
                process.wait_ready()
            return process

        yield start


@pytest.fixture
async def said(harness: StageHarness) -> AsyncIterator[ReplyRecorder]:
    async with listening(harness.client) as recorder:
        yield recorder


async def pass_on(query: Query, _: Context) -> Query:
    return query


async def status(process: ServiceProcess, page: str = "/readyz") -> int:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(process.url + page)).status_code


async def forwarded(process: ServiceProcess) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(process.url + "/metrics")).text
    return 'outcome="forwarded"' in metrics


async def test_the_work_of_a_worker_that_was_killed_is_done_by_another_with_one_result(
    harness: StageHarness, said: ReplyRecorder, start: Start
) -> None:
    first = start("first")
    query = harness.query("work", question="hold")
    async with harness.replies_to(query) as mailbox:
        assert await said.next("started") == ("first", query.id)
        start("second")
        first.kill()
        assert await said.next("started") == ("second", query.id)
        await said.go(query)
        events = await harness.events(mailbox)
    assert [type(event) for event in events] == [Progress, Progress, Result]
    assert [event.delivery for event in events] == [1, 2, 2]
    await harness.empty("work")


async def test_a_worker_killed_between_forwarding_and_acknowledging_leaves_one_message_downstream(
    harness: StageHarness, start: Start
) -> None:
    dies = start("dies", dies_after_forward=True)
    await harness.submit(harness.query("work", "second"))
    assert await asyncio.to_thread(dies.wait) == -signal.SIGKILL
    assert await harness.stored("query.second.>") == 1
    successor = start("successor")
    await until(lambda: forwarded(successor))
    await harness.empty("work")
    assert await harness.stored("query.second.>") == 1


async def test_a_worker_that_was_stopped_beyond_ack_wait_and_goes_on_leaves_one_message_downstream(
    harness: StageHarness, said: ReplyRecorder, start: Start
) -> None:
    sleeper = start("sleeper")
    query = await harness.submit(harness.query("work", "second", question="hold"))
    assert await said.next("started") == ("sleeper", query.id)
    # It is there before the stop: else the broker offers the message to the stopped worker alone, until it gives it up.
    other = start("other")
    sleeper.signal(signal.SIGSTOP)
    assert await said.next("started") == ("other", query.id)
    await said.go(query)
    await until(lambda: forwarded(other))
    sleeper.signal(signal.SIGCONT)
    await until(lambda: forwarded(sleeper))
    assert await harness.stored("query.second.>") == 1
    await harness.empty("work")


async def test_work_that_kills_every_worker_becomes_a_dead_letter(
    harness: StageHarness, said: ReplyRecorder, start: Start
) -> None:
    query = harness.query("work", question="die", timeout=100.0)
    async with harness.replies_to(query) as mailbox:
        for number in range(2):
            worker = start(f"victim{number}", wait=False, max_deliver=2)
            assert await said.next("started") == (f"victim{number}", query.id)
            assert await asyncio.to_thread(worker.wait) == -signal.SIGKILL
        start("survivor", max_deliver=2)
        *_, end = await harness.events(mailbox)
    assert isinstance(end, Failed)
    assert end.problem.type == ProblemType.STAGE_FAILED.uri
    (letter,) = await DeadLetters(harness.client, harness.jetstream).list()
    assert letter.reason.startswith("Delivered 2 times")


async def test_a_dead_letter_succeeds_when_it_is_replayed_after_the_stage_was_repaired(
    harness: StageHarness, start: Start
) -> None:
    broken = start("broken", max_deliver=2)
    query = harness.query("work", question="fail")
    letters = DeadLetters(harness.client, harness.jetstream)
    async with harness.replies_to(query) as mailbox:
        assert isinstance((await harness.events(mailbox))[-1], Failed)
        assert await asyncio.to_thread(broken.stop) == 0
        start("repaired", repaired=True)
        (letter,) = await letters.list()
        await letters.replay(letter.sequence)
        assert isinstance((await harness.events(mailbox))[-1], Result)
    assert await letters.count() == 0


async def test_a_cancel_over_the_bus_stops_work_in_flight_in_every_process(
    harness: StageHarness, said: ReplyRecorder, start: Start
) -> None:
    start("far")
    for question in ("hold", "stream"):
        query = harness.query("work", question=question)
        async with harness.replies_to(query) as mailbox:
            assert isinstance(await mailbox.receive(PATIENCE), Progress)
            if question == "stream":
                assert isinstance(await mailbox.receive(PATIENCE), Delta)
            else:
                await said.next("started")
            await mailbox.cancel()
            assert await said.next("stopped") == ("far", query.id)
    await harness.empty("work")


async def test_on_sigterm_a_worker_is_not_ready_takes_nothing_more_finishes_its_work_and_exits_cleanly(
    harness: StageHarness, said: ReplyRecorder, start: Start
) -> None:
    worker = start("worker", room=2)
    held = [await harness.submit(harness.query("work", "second", question="hold")) for _ in range(2)]
    for _ in held:
        await said.next("started")
    worker.signal(signal.SIGTERM)

    async def says_no() -> bool:
        return await status(worker) == 503

    await until(says_no)
    assert await status(worker, "/livez") == 200
    await said.go(held[0])
    await until(lambda: forwarded(worker))
    for _ in range(3):
        await harness.submit(harness.query("work", "second"))
    info = await harness.queue("work")
    assert (info.num_ack_pending, info.num_pending) == (1, 3)
    await said.go(held[1])
    assert await asyncio.to_thread(worker.wait) == 0, worker.log
    info = await harness.queue("work")
    assert (info.num_ack_pending, info.num_pending, info.num_redelivered) == (0, 3, 0)
    assert await harness.stored("query.second.>") == 2


async def test_what_is_not_finished_within_the_grace_period_goes_at_once_to_another_worker(
    harness: StageHarness, said: ReplyRecorder, start: Start
) -> None:
    query = harness.query("work", question="hold")
    leaves = start("leaves", ack_wait=600.0, grace_seconds=0.2)
    async with harness.replies_to(query) as mailbox:
        assert await said.next("started") == ("leaves", query.id)
        start("stays", ack_wait=600.0)
        leaves.signal(signal.SIGTERM)
        assert await said.next("started") == ("stays", query.id)
        assert await asyncio.to_thread(leaves.wait) == 0, leaves.log
        await said.go(query)
        assert isinstance((await harness.events(mailbox))[-1], Result)
    await harness.empty("work")


async def test_a_rolling_restart_under_load_loses_no_query(harness: StageHarness, start: Start) -> None:
    workers = {name: start(name, room=16) for name in ("a", "b")}
    started = asyncio.Event()
    restarted = asyncio.Event()
    ends: list[object] = []

    async def load() -> None:
        while not restarted.is_set() or len(ends) < 300:
            ends.append((await harness.ask(harness.query("work", "work", "work")))[-1])
            if len(ends) >= 50:
                started.set()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(16):
            tasks.create_task(load())
        for name, worker in workers.items():
            await started.wait()
            assert await asyncio.to_thread(worker.stop) == 0, worker.log
            await asyncio.to_thread(start, f"{name}-new", room=16)
        restarted.set()
    assert {type(end) for end in ends} == {Result}
    await harness.empty("work")
    info = await harness.queue("work")
    assert info.ack_floor.stream_seq == info.delivered.stream_seq


async def test_queries_on_a_graph_arrive_once_each_while_their_workers_are_killed(
    harness: StageHarness, start: Start
) -> None:
    arrived: defaultdict[str, set[int]] = defaultdict(set)

    async def hear(message: Msg) -> None:
        for event in map(decode_event, message.data.split(b"\n")):
            if event.stage == "collect":
                arrived[message.subject].add(event.message)

    graph = read_pipelines({"pipelines": {"p": yaml.safe_load(GRAPH)}})["p"]
    queries = [
        resolved(harness.query("x", id=f"killed-{n}").model_copy(update={"slip": graph, "reply": f"reply.x.{n}"}))
        for n in range(150)
    ]
    await harness.client.subscribe("reply.x.*", cb=hear)
    workers = [start(f"graph-{n}", max_deliver=100) for n in range(2)]
    async with harness.working(pass_on, "collect", room=64):
        for at, query in enumerate(queries):
            await harness.submit(query)
            if at % 50 == 24:
                workers.pop(0).kill()
                # Off the event loop, so that the worker in this process goes on telling the broker that it is alive.
                workers.append(await asyncio.to_thread(start, f"graph-{at}", max_deliver=100))
        await until(lambda: have_arrived(arrived, len(queries)), "every query")
        await harness.empty("work")
        await harness.empty("collect")
    assert {len(messages) for messages in arrived.values()} == {1}


async def have_arrived(arrived: Mapping[str, set[int]], count: int) -> bool:
    return len(arrived) == count
