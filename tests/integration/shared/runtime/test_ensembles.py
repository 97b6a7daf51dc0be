"""Parallel branches, with stage workers on a real broker."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
import yaml
from prometheus_client import REGISTRY

from shared.contracts.envelope import Passage, Query, Stop
from shared.contracts.events import AnyEvent, Failed, Result, Waiting
from shared.contracts.graphs import resolved
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.onward import Onward
from shared.runtime.options import DEFAULTS
from shared.runtime.stage import Context
from shared.stores.dead_letters import DeadLetters
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness, until

pytestmark = pytest.mark.anyio

Work = Callable[[Query, Context], Awaitable[Query | None]]


def asked(harness: StageHarness, text: str, **members: object) -> Query:
    steps: tuple[Stop, ...] = read_pipelines({"pipelines": {"p": yaml.safe_load(text)}})["p"]
    return resolved(harness.query("x", **members).model_copy(update={"slip": steps}))


async def last(harness: StageHarness, query: Query) -> Result | Failed:
    event = (await harness.ask(query))[-1]
    assert isinstance(event, Result | Failed)
    return event


async def pass_on(query: Query, context: Context) -> Query:
    return query


async def refuse(query: Query, context: Context) -> Query:
    raise Problem(ProblemType.ENGINE_FAILED, "Out of order.")


def finds(*scores: float, size: int = 10) -> Work:
    async def find(query: Query, context: Context) -> Query:
        passages = [
            Passage(id=f"p{score}", document_id="d", document="d", position=0, text="x" * size, score=score)
            for score in scores
        ]
        return query.with_passages(passages)

    return find


def branches(event: Result | Failed) -> list[tuple[str, str]]:
    assert isinstance(event, Result), event
    return [(hop.stage, hop.branch) for hop in event.query.trail]


@pytest.fixture
async def plain(harness: StageHarness) -> AsyncIterator[StageHarness]:
    """With workers of a stage that passes on."""
    async with harness.working(pass_on, "plain", room=16):
        yield harness


async def test_branches_are_in_work_at_once_and_come_together(harness: StageHarness) -> None:
    both = asyncio.Barrier(2)

    async def meet(query: Query, context: Context) -> Query:
        await both.wait()
        return await finds(0.1 if "left" in query.branch else 0.7)(query, context) or query

    text = "- ensemble: [{name: left, then: [meet]}, {name: right, then: [meet]}]\n- after"
    async with harness.working(meet, "meet", room=2), harness.working(pass_on, "after"):
        event = await last(harness, asked(harness, text))
    assert branches(event) == [("meet", "left"), ("meet", "right"), ("after", "")]
    assert isinstance(event, Result)
    assert [passage.score for passage in event.query.passages] == [0.7]


async def test_the_query_goes_on_without_a_branch_that_fails_where_the_quorum_says_so(plain: StageHarness) -> None:
    text = "- ensemble: [{name: bad, then: [broken]}, {name: good, then: [plain]}]\n  quorum: 1\n- plain"
    async with plain.working(refuse, "broken"):
        event = await last(plain, asked(plain, text))
    assert isinstance(event, Result)
    assert event.query.results is not None
    assert event.query.results.branches["bad"].failed["stage"] == "broken"
    assert event.query.results.branches["good"].failed == {}


async def test_too_many_failures_are_told_to_the_reader_at_once(plain: StageHarness) -> None:
    never = asyncio.Event()

    async def hang(query: Query, context: Context) -> Query:
        await never.wait()
        return query

    text = "- ensemble: [{name: bad, then: [broken]}, {name: hangs, then: [hang]}]\n- plain"
    async with plain.working(refuse, "broken"), plain.working(hang, "hang"):
        event = await last(plain, asked(plain, text))
    assert isinstance(event, Failed)
    assert event.problem.type == ProblemType.ENGINE_FAILED.uri
    assert "Branch 'bad': Out of order." in event.problem.detail


async def test_a_fallback_around_an_ensemble_takes_the_query_on(plain: StageHarness) -> None:
    text = "- fallback: [{ensemble: [{name: bad, then: [broken]}, {name: good, then: [plain]}]}]\n  otherwise: [plain]"
    async with plain.working(refuse, "broken"):
        event = await last(plain, asked(plain, text))
    assert branches(event) == [("plain", "")]
    assert isinstance(event, Result)
    assert event.query.notes["failed"] == {"stage": "broken", "variant": "default", "problem": "engine-failed"}


async def test_an_ensemble_may_take_the_place_of_one_that_failed(plain: StageHarness) -> None:
    text = """
- fallback: [{ensemble: [{name: a, then: [broken]}, {name: b, then: [plain]}]}]
  otherwise:
    - fallback: [{ensemble: [{name: a, then: [broken]}, {name: b, then: [plain]}]}]
      otherwise: [{ensemble: [{name: a, then: [plain]}, {name: b, then: [plain]}]}, plain]
"""
    async with plain.working(refuse, "broken"):
        event = await last(plain, asked(plain, text))
    assert branches(event) == [("plain", "a"), ("plain", "b"), ("plain", "")]


async def test_ensembles_follow_each_other_where_none_visits_a_stage(plain: StageHarness) -> None:
    text = "- {loop: [{ensemble: [{name: a}]}, {ensemble: [{name: a}, {name: b}]}], times: 3}\n- plain"
    event = await last(plain, asked(plain, text))
    assert branches(event) == [("plain", "")]
    assert isinstance(event, Result)
    assert event.query.results is not None
    assert set(event.query.results.branches) == {"a", "b"}


async def test_a_branch_that_takes_too_long_is_stopped_and_the_others_go_on(plain: StageHarness) -> None:
    stopped = asyncio.Event()

    async def hang(query: Query, context: Context) -> Query:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return query

    text = "- ensemble: [{name: slow, then: [hang], seconds: 0.2}, {name: good, then: [plain]}]\n  quorum: 1\n- plain"
    async with plain.working(hang, "hang"):
        event = await last(plain, asked(plain, text))
        assert stopped.is_set()
    assert isinstance(event, Result)
    assert event.query.results is not None
    assert event.query.results.branches["slow"].failed["problem"] == "deadline-exceeded"


async def test_an_early_ensemble_does_not_wait_and_what_comes_late_is_dropped(plain: StageHarness) -> None:
    go = asyncio.Event()

    async def wait(query: Query, context: Context) -> Query:
        await go.wait()
        return query

    before = late()
    text = "- ensemble: [{name: slow, then: [wait]}, {name: fast, then: [plain]}]\n  quorum: 1\n  early: true\n- plain"
    query = asked(plain, text)
    async with plain.working(wait, "wait"), plain.replies_to(query) as mailbox:
        event = (await plain.events(mailbox))[-1]
        assert isinstance(event, Result)
        assert branches(event) == [("plain", "fast"), ("plain", "")]
        go.set()
        await plain.empty("wait")
        await until(lambda: came_late(before), "the slow branch")
    await plain.empty("plain")


def late() -> float:
    return REGISTRY.get_sample_value("sluice_ensembles_total", {"outcome": "late"}) or 0.0


async def came_late(before: float) -> bool:
    return late() == before + 1


async def test_branches_without_a_stage_need_no_worker(plain: StageHarness) -> None:
    text = (
        "- ensemble: [{name: none}, {name: some, then: [{switch: [{when: \"question == 'x'\", then: [absent]}]}]}]\n"
        "- plain"
    )
    event = await last(plain, asked(plain, text))
    assert branches(event) == [("plain", "")]


async def test_an_ensemble_may_be_the_end(plain: StageHarness) -> None:
    event = await last(plain, asked(plain, "- plain\n- ensemble: [{name: a, then: [plain]}, {name: b, then: [plain]}]"))
    assert branches(event) == [("plain", ""), ("plain", "a"), ("plain", "b")]


async def test_a_full_queue_of_one_branch_is_a_failure_of_that_branch(broker: NatsServer) -> None:
    text = "- ensemble: [{name: full, then: [crowded]}, {name: good, then: [plain]}]\n  quorum: 1\n- after"
    async with (
        open_stage_harness(broker.url, queue_limit=1) as harness,
        harness.working(pass_on, "plain"),
        harness.working(pass_on, "after"),
    ):
        await harness.submit(harness.query("crowded"))
        event = await last(harness, asked(harness, text))
        assert isinstance(event, Result)
        assert event.query.results is not None
        assert event.query.results.branches["full"].failed["problem"] == "queue-full"


async def test_branches_that_together_fit_into_no_message_are_told_to_the_reader(harness: StageHarness) -> None:
    text = "- ensemble: [{name: a, then: [find]}, {name: b, then: [find]}, {name: c, then: [find]}]"
    async with harness.working(finds(0.5, size=400_000), "find", room=4):
        event = await last(harness, asked(harness, text))
    assert isinstance(event, Failed)
    assert event.problem.type == ProblemType.TOO_LARGE.uri
    assert "branches" in event.problem.detail


async def test_a_dead_letter_of_a_branch_is_kept_and_comes_back_alone(broker: NatsServer) -> None:
    crashes = True

    async def crash(query: Query, context: Context) -> Query:
        if crashes:
            raise RuntimeError("broken")
        return query

    text = "- ensemble: [{name: a, then: [fragile]}, {name: b, then: [plain]}]\n  quorum: 1\n- plain"
    async with (
        open_stage_harness(broker.url, max_deliver=1) as harness,
        harness.working(crash, "fragile"),
        harness.working(pass_on, "plain"),
    ):
        letters = DeadLetters(harness.client, harness.jetstream)
        query = asked(harness, text)
        async with harness.replies_to(query) as mailbox:
            assert isinstance((await harness.events(mailbox))[-1], Result)
            (letter,) = await letters.list()
            crashes = False
            await letters.replay(letter.sequence)
            event = (await harness.events(mailbox))[-1]
        assert isinstance(event, Result)
        assert branches(event) == [("fragile", "")]


async def test_what_a_branch_streams_does_not_end_it(plain: StageHarness) -> None:
    async def stream(query: Query, context: Context) -> None:
        await context.delta("word")

    text = "- ensemble: [{name: a, then: [stream]}]\n- plain"
    async with plain.working(stream, "stream"):
        event = await last(plain, asked(plain, text))
    assert branches(event) == [("stream", "a"), ("plain", "")]


async def test_the_same_ensemble_in_every_round_of_a_loop_is_joined_each_time(plain: StageHarness) -> None:
    text = "- {loop: [{ensemble: [{name: a, then: [plain]}, {name: b, then: [plain]}]}], times: 3}"
    event = await last(plain, asked(plain, text))
    assert branches(event) == [("plain", "a"), ("plain", "b")] * 3


async def test_a_second_attempt_is_joined_anew(plain: StageHarness) -> None:
    query = asked(plain, "- ensemble: [{name: a, then: [plain]}, {name: b, then: [plain]}]")
    async with plain.replies_to(query) as mailbox:
        assert isinstance((await plain.events(mailbox))[-1], Result)
        await plain.submit(query.resubmitted())
        event = (await plain.events(mailbox))[-1]
    assert isinstance(event, Result)
    assert event.query.attempt == 2


async def test_a_query_is_joined_after_the_broker_has_lost_its_memory(plain: StageHarness) -> None:
    await plain.jetstream.delete_stream("KV_joins")
    started = time.time()
    event = await last(plain, asked(plain, "- ensemble: [{name: a, then: [plain]}, {name: b, then: [plain]}]"))
    assert branches(event) == [("plain", "a"), ("plain", "b")]
    assert event.query.deadline > started  # type: ignore[union-attr]


async def test_a_query_that_is_taken_back_while_it_is_sent_into_branches_stops_there(plain: StageHarness) -> None:
    class Reader:
        """One that takes the query back while the first branch is on its way and the second one has left."""

        def __init__(self, taken_back: anyio.CancelScope) -> None:
            self.taken_back = taken_back
            self.left = asyncio.Event()

        async def send(self, event: AnyEvent, /) -> bool:
            assert isinstance(event, Waiting)
            if event.branch.endswith(".b"):
                self.left.set()
                return True
            await self.left.wait()
            self.taken_back.cancel()
            return await asyncio.Future()

    text = "- ensemble: [{name: a, then: [absent], seconds: 5}, {name: b, then: [absent], seconds: 5}]"
    query = asked(plain, text)
    onward = Onward(plain.jetstream, plain.topology, DEFAULTS, room=0)
    with anyio.CancelScope() as taken_back:
        await onward.begin(query, Reader(taken_back))
    assert taken_back.cancelled_caught
