"""Slips that decide on the way, with stage workers on a real broker."""

import asyncio
import time

import pytest
import yaml

from shared.contracts.envelope import Hop, Query, Stop
from shared.contracts.events import Failed, Result
from shared.contracts.graphs import fallen_back, limit, resolved
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.forward import forward, message_id
from shared.runtime.stage import Context
from shared.stores.dead_letters import DeadLetters
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness, outcomes, until

pytestmark = pytest.mark.anyio


def steps(text: str) -> tuple[Stop, ...]:
    return read_pipelines({"pipelines": {"p": yaml.safe_load(text)}})["p"]


def asked(harness: StageHarness, text: str, **members: object) -> Query:
    return resolved(harness.query("x", **members).model_copy(update={"slip": steps(text)}))


async def pass_on(query: Query, context: Context) -> Query:
    return query


async def refuse(query: Query, context: Context) -> Query:
    raise Problem(ProblemType.ENGINE_FAILED, "Out of order.")


async def crash(query: Query, context: Context) -> Query:
    raise RuntimeError("broken")


async def is_over(moment: float) -> bool:
    return time.time() > moment


async def last(harness: StageHarness, query: Query) -> Result | Failed:
    event = (await harness.ask(query))[-1]
    assert isinstance(event, Result | Failed)
    return event


def visited(event: Result | Failed) -> list[str]:
    return [hop.stage for hop in (event.query.trail if isinstance(event, Result) else event.trail)]


async def test_a_stage_s_notes_decide_where_a_query_goes(harness: StageHarness) -> None:
    async def judge(query: Query, context: Context) -> Query:
        rounds = int(str(query.notes.get("rounds", 0))) + 1
        return query.model_copy(update={"notes": {**query.notes, "rounds": rounds}})

    text = """
    - {loop: [judge], until: notes.rounds >= 3, times: 9}
    - switch: [{when: notes.rounds == 3, then: [three]}]
      default: [other]
    """
    async with harness.working(judge, "judge"), harness.working(pass_on, "three"):
        event = await last(harness, asked(harness, text))
    assert visited(event) == ["judge", "judge", "judge", "three"]
    assert outcomes("judge", "forwarded") == 3


async def test_a_condition_that_cannot_be_evaluated_is_told_to_the_reader(harness: StageHarness) -> None:
    async with harness.working(pass_on, "first"):
        event = await last(harness, asked(harness, "[first, {switch: [{when: notes.nothing, then: [a]}]}]"))
    assert isinstance(event, Failed)
    assert "there is no `notes.nothing`" in event.problem.detail


async def test_a_problem_takes_the_query_to_the_other_steps(harness: StageHarness) -> None:
    async with harness.working(refuse, "engine"), harness.working(pass_on, "spare"):
        event = await last(harness, asked(harness, "[{fallback: [engine], otherwise: [spare]}]"))
    assert isinstance(event, Result)
    assert visited(event) == ["engine", "spare"]
    assert event.query.notes["failed"] == {"stage": "engine", "variant": "default", "problem": "engine-failed"}
    assert outcomes("engine", "fallback") == 1


async def test_nothing_but_the_envelope_is_left_where_the_other_way_is_empty(harness: StageHarness) -> None:
    async with harness.working(refuse, "optional"):
        event = await last(harness, asked(harness, "[{fallback: [optional], otherwise: []}]"))
    assert isinstance(event, Result)


async def test_where_the_other_steps_fail_too_the_reader_gets_their_problem(harness: StageHarness) -> None:
    async with harness.working(refuse, "engine"), harness.working(refuse, "spare"):
        event = await last(harness, asked(harness, "[{fallback: [engine], otherwise: [spare]}]"))
    assert isinstance(event, Failed)
    assert (event.stage, event.problem.type) == ("spare", ProblemType.ENGINE_FAILED.uri)


async def test_a_dead_letter_is_kept_and_the_query_goes_on(broker: NatsServer) -> None:
    async with (
        open_stage_harness(broker.url, max_deliver=2) as harness,
        harness.working(crash, "breaks"),
        harness.working(pass_on, "spare"),
    ):
        event = await last(harness, asked(harness, "[{fallback: [breaks], otherwise: [spare]}]"))
        assert visited(event) == ["breaks", "spare"]
        assert [letter.reason for letter in await DeadLetters(harness.client, harness.jetstream).list()] == [
            "RuntimeError: broken"
        ]


async def test_work_that_takes_longer_than_the_fallback_allows_is_stopped(harness: StageHarness) -> None:
    stopped = asyncio.Event()

    async def hang(query: Query, context: Context) -> Query:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return query

    async with harness.working(hang, "slow"), harness.working(pass_on, "quick"):
        event = await last(harness, asked(harness, "[{fallback: [slow], seconds: 0.2, otherwise: [quick]}]"))
        assert stopped.is_set()
    assert visited(event) == ["slow", "quick"]
    assert isinstance(event, Result)
    assert event.query.notes["failed"] == {"stage": "slow", "variant": "default", "problem": "deadline-exceeded"}


async def test_a_query_that_waited_longer_than_the_fallback_allows_is_not_begun(harness: StageHarness) -> None:
    begun: list[str] = []

    async def begin(query: Query, context: Context) -> Query:
        begun.append(query.id)
        return query

    query = asked(harness, "[{fallback: [late], seconds: 0.01, otherwise: [quick]}]")
    await harness.make_queue("late")
    async with harness.replies_to(query) as mailbox, harness.working(pass_on, "quick"):
        await until(lambda: is_over(limit(query)))
        async with harness.working(begin, "late"):
            event = (await harness.events(mailbox))[-1]
    assert isinstance(event, Result)
    assert begun == []
    assert visited(event) == ["late", "quick"]


async def test_a_redelivery_that_decides_otherwise_adds_no_second_way(harness: StageHarness) -> None:
    """What a worker leaves that fell back and died before it acknowledged: its successor succeeds."""
    query = asked(harness, "[{fallback: [first, second], otherwise: [spare]}]")
    hop = Hop(stage="first", variant="default", worker="died", waited_ms=0, worked_ms=0)
    other = fallen_back(query, Problem(ProblemType.ENGINE_FAILED, "no"), hop)
    assert other is not None
    known_as = message_id(query.advance(hop))
    await forward(harness.jetstream, harness.topology, other, known_as=known_as)
    async with harness.working(pass_on, "first"):
        await harness.submit(query)
        await harness.empty("first")
    assert await harness.stored("query.spare.>") == 1
    assert await harness.stored("query.second.>") == 0
