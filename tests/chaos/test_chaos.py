"""A short run of the chaos, and its own parts: a judge that overlooks something would make every run a good one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.deployment import Shape
from tests.chaos.expected_answers import answer_to, embedding_of, passages_for
from tests.chaos.links import links
from tests.chaos.oracle import Asked, Oracle, Trouble, judge_answer, judge_problem
from tests.chaos.plan import BROKER, LOAD, Kind, Layout, rounds
from tests.chaos.report import plot, render, save, table
from tests.chaos.run import Options, chaos

LAYOUT = Layout(services=("gateway-1", "gateway-2", "worker-1"), nodes=("n0",))
SEED = 6
SHORT_RUN = (Kind.KILL, Kind.TERM, Kind.STOP, Kind.HOLE, Kind.BROKER_KILL, Kind.POISON_QUERY, Kind.POISON_JOB)

ASKED = Asked("a question", "red", "gateway-1", "plain", timeout=10.0, sent=100.0, ended=101.0, outcome="answer")


def drawn(seed: int, count: int = 100) -> list[Any]:
    return list(islice(rounds(seed, tuple(Kind), LAYOUT), count))


def test_faults_are_drawn_from_the_seed_alone() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_every_kind_of_fault_comes_and_never_two_at_the_broker() -> None:
    faults = [fault for turn in drawn(3) for fault in turn.faults]
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(sum(fault.kind in BROKER for fault in turn.faults) <= 1 for turn in drawn(3))
    assert all((fault.target == "clients") == (fault.kind in LOAD) for fault in faults)


def answer_of(tenant: str, question: str) -> tuple[str, list[dict[str, str]]]:
    passages = passages_for(tenant, question, embedding_of(tenant, question))
    return answer_to(tenant, question, passages), [{"text": text} for text in passages]


def test_an_answer_to_its_own_question_is_right() -> None:
    assert judge_answer(ASKED, *answer_of("red", "a question")) == ""


@pytest.mark.parametrize(("tenant", "question"), [("blue", "a question"), ("red", "another question")])
def test_an_answer_or_sources_of_another_tenant_or_question_are_seen(tenant: str, question: str) -> None:
    answer, sources = answer_of("red", "a question")
    other_answer, other_sources = answer_of(tenant, question)
    assert judge_answer(ASKED, other_answer, sources)
    assert judge_answer(ASKED, answer, other_sources)
    assert judge_answer(ASKED, answer[:-1], sources)


def test_a_problem_must_be_one_by_the_standard() -> None:
    good = {"type": "urn:sluice:problem:x", "title": "t", "status": 503, "detail": "d"}
    assert judge_problem(503, "application/problem+json", good) == ""
    assert judge_problem(503, "text/plain", good)
    assert judge_problem(500, "application/problem+json", good)
    assert judge_problem(503, "application/problem+json", good | {"detail": ""})
    assert judge_problem(503, "application/problem+json", good | {"type": "about:blank"})


def verdict(asked: Asked, *troubles: Trouble) -> list[str]:
    return Oracle(asked=[asked], troubles=list(troubles)).judge()


@pytest.mark.parametrize(
    "change",
    [
        {"ended": 0.0},
        {"ended": 120.0},
        {"outcome": "lost"},
        {"outcome": "internal-error"},
        {"outcome": "deadline-exceeded"},
        {"outcome": "queue-full"},
        {"outcome": "cut short"},
        {"fault": "sources of another query"},
    ],
)
def test_what_a_user_may_not_meet_is_a_broken_promise_where_nothing_was_wrong(change: dict[str, Any]) -> None:
    assert verdict(ASKED) == []
    assert len(verdict(replace(ASKED, **change))) == 1


def test_a_problem_is_excused_by_a_fault_of_its_time_and_by_no_gentle_one() -> None:
    asked = replace(ASKED, outcome="broker-unavailable")
    assert verdict(asked, Trouble("broker-kill", "n0", 99.0, 100.2, 103.0)) == []
    assert verdict(asked, Trouble("broker-kill", "n0", 90.0, 91.0, 99.0))
    assert verdict(asked, Trouble("term", "gateway-1", 99.0, 100.2, 103.0))


def test_a_lost_connection_is_excused_by_the_death_of_its_own_gateway_only() -> None:
    asked = replace(ASKED, outcome="lost")
    assert verdict(asked, Trouble("kill", "gateway-1", 99.0, 100.2, 103.0)) == []
    assert verdict(asked, Trouble("kill", "gateway-2", 99.0, 100.2, 103.0))


def test_a_late_end_is_excused_by_as_much_as_its_gateway_stood_still() -> None:
    asked = replace(ASKED, outcome="deadline-exceeded", ended=118.0)
    assert verdict(asked, Trouble("stop", "gateway-1", 101.0, 108.0, 109.0)) == []
    assert verdict(asked, Trouble("stop", "gateway-1", 101.0, 104.0, 109.0))
    assert verdict(asked, Trouble("stop", "gateway-2", 101.0, 108.0, 109.0))


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.anyio
async def test_a_proxy_passes_on_holds_up_and_cuts() -> None:
    async with echo() as port:
        with links({"s/n": port}) as between:
            reader, writer = await asyncio.open_connection("127.0.0.1", between.ports["s/n"])
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            between.turn(["s/n"], "hole")
            writer.write(b"two")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(3), 0.1)
            between.turn(["s/n"], "open")
            assert await reader.readexactly(0) == b""
            assert (await reader.read(3)) == b"two"
            between.turn(["s/n"], "delay", 0.05)
            writer.write(b"three")
            assert await reader.readexactly(5) == b"three"
            between.turn(["s/n"], "cut")
            assert await _ended(reader)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.timeout(600)
def test_a_short_run_keeps_every_promise(tmp_path: Path) -> None:
    shape = Shape(gateways=2, stages=2, split=False)
    options = Options(seed=SEED, minutes=1.0, kinds=SHORT_RUN, shape=shape, clients=6, most_rounds=4, longest=0.8)
    run = chaos(options, tmp_path)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert run["wrong"] == [], f"seed {SEED}: {events}"
    assert run["queries"]["outcomes"]["answer"] > 0
    assert run["jobs"]["effects"] == run["jobs"]["accepted"] > 0
    assert {event["what"] for event in events} >= {"ready", "fault", "fault is over", "well again"}
    save(tmp_path / "out.json", {"name": "chaos"}, run)
    save(tmp_path / "out.json", {"name": "chaos"}, run)
    saved = json.loads((tmp_path / "out.json").read_text())["results"]
    assert len(saved["runs"]) == 2
    assert "broken guarantees" in table(saved)
    assert "verdict" in render(run)
    assert callable(plot)
