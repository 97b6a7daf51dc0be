"""A real scheduler sees that questions move away from those before, by the real embedding model."""

import random
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from nats.js import JetStreamContext

from services.gateway.answers.store import AnswerStore
from shared.stores.collections import Collections
from sluice.api.feedback import KeptAnswer
from sluice.api.queries import Source
from tests.harness.broker import NatsServer
from tests.harness.job_harness import open_job_harness
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

RANDOM = random.Random(7)
HOUR = 3600.0
PATIENCE = 120.0
SETTINGS = {
    "question_drift": True,
    "question_drift_minutes": 0.03,
    "stage_seconds": 10.0,
    "stage_tries": 2,
    "reader_workers": 1,
}
PRODUCTS = ("kettle", "toaster", "washing machine", "fridge", "vacuum cleaner", "oven", "blender", "coffee machine")
OF_PRODUCTS = (
    "How long is the warranty of the {}?",
    "How do I clean the {}?",
    "The {} does not start, what can I do?",
    "Where do I get spare parts for the {}?",
    "How much power does the {} need?",
    "Can I send the {} back?",
    "What does the red light of my {} mean?",
    "Is there a manual for the {}?",
)
MATTERS = ("parental leave", "holidays", "overtime", "a sick child", "a business trip", "part-time work", "a pension")
OF_STAFF = (
    "Whom do I tell about {}?",
    "How many days do I get for {}?",
    "Is my salary paid during {}?",
    "Does my contract say something of {}?",
    "How early must I apply for {}?",
    "What does the works council think of {}?",
    "Which form does the personnel department want for {}?",
)


def of_products() -> str:
    return RANDOM.choice(OF_PRODUCTS).format(RANDOM.choice(PRODUCTS))


def of_staff() -> str:
    return RANDOM.choice(OF_STAFF).format(RANDOM.choice(MATTERS))


async def write(
    jetstream: JetStreamContext, collection: str, questions: list[str], *, ago: float, score: float
) -> None:
    """Answers that were given so many hours ago, to questions with such a score, about."""
    store = AnswerStore(jetstream)
    for question in questions:
        best = min(1.0, max(0.0, RANDOM.gauss(score, 0.1)))
        source = Source(index=1, document="manual", text="A text.", score=best)
        told = {"question": question, "collection": collection, "asked_at": time.time() - ago * HOUR}
        answer = {"id": f"{RANDOM.getrandbits(64):016x}", "answer": "Thus.", "sources": (source,), **told}
        await store.put("acme", KeptAnswer.model_validate(answer))


async def metrics(scheduler: ServiceProcess) -> dict[str, float]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        text = (await http.get(f"{scheduler.url}/metrics")).text
    lines = re.findall(r"^(sluice_(?:question|score)_drift\S*) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


async def shown(scheduler: ServiceProcess, name: str, least: float) -> dict[str, float]:
    """The metrics once one of them has at least this value."""

    async def look() -> dict[str, float] | None:
        found = await metrics(scheduler)
        return found if found.get(name, -1.0) >= least else None

    value: dict[str, float] = await until(look, f"{name} is {least}", patience=PATIENCE)
    return value


def of(name: str, collection: str, more: str = "") -> str:
    return f'sluice_{name}{{collection="{collection}",{more}tenant="acme"}}'


def outcome(name: str) -> str:
    return f'sluice_question_drift_comparisons_total{{outcome="{name}"}}'


@asynccontextmanager
async def filled(broker: NatsServer) -> AsyncIterator[JetStreamContext]:
    """Collections whose questions stay, move, or are few, all of them as old as they say."""
    async with open_job_harness(broker.url) as harness:
        jetstream = harness.bus.jetstream
        for name in ("stays", "moves", "few"):
            await Collections(jetstream).create("acme", name)
            await write(jetstream, name, [of_products() for _ in range(70)], ago=72, score=0.7)
        await write(jetstream, "stays", [of_products() for _ in range(60)], ago=2, score=0.7)
        await write(jetstream, "moves", [of_staff() for _ in range(60)], ago=2, score=0.4)
        await write(jetstream, "few", [of_staff() for _ in range(20)], ago=2, score=0.4)
        yield jetstream


@pytest.fixture
def embedder(own_broker: NatsServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess("services.embedder", tmp_path, nats_url=own_broker.url) as process:
        yield process


def scheduler(broker: NatsServer, folder: Path) -> ServiceProcess:
    return ServiceProcess("services.scheduler", folder, nats_url=broker.url, **SETTINGS)


async def test_questions_of_another_kind_drift_and_of_the_same_kind_do_not(
    own_broker: NatsServer, embedder: ServiceProcess, tmp_path: Path
) -> None:
    async with filled(own_broker) as jetstream:
        with scheduler(own_broker, tmp_path) as watching:
            found = await shown(watching, outcome("compared"), 2)
            assert found[outcome("too-few")] >= 1
            assert not any('"few"' in name for name in found)
            assert found[of("question_drift_questions", "moves")[:-1] + ',window="recent"}'] == 60
            assert found[of("question_drift_p_value", "moves")] == pytest.approx(0.001)
            assert found[of("question_drift_distance", "moves")] > 0.1
            assert found[of("score_drift_p_value", "moves", 'score="best",')] == pytest.approx(0.001)
            assert found[of("score_drift_distance", "moves", 'score="best",')] > 0.5
            assert found[of("question_drift_p_value", "stays")] > 0.01
            assert found[of("question_drift_distance", "stays")] < 0.03
            assert found[of("score_drift_p_value", "stays", 'score="best",')] > 0.01
            assert not any("confidence" in name for name in found)

            # What is not embedded yet needs the embedder; what is shown stays meanwhile.
            embedder.kill()
            await write(jetstream, "stays", [of_staff() for _ in range(60)], ago=1, score=0.7)
            found = await shown(watching, outcome("failed"), 1)
            assert found[of("question_drift_p_value", "stays")] > 0.01
            embedder.start()
            embedder.wait_ready()
            moved = of("question_drift_questions", "stays")[:-1] + ',window="recent"}'
            found = await shown(watching, moved, 120)
            assert found[of("question_drift_p_value", "stays")] == pytest.approx(0.001)

            # A collection without questions is not shown any more.
            await Collections(jetstream).delete("acme", "moves")
            await until(lambda: _gone(watching, of("question_drift_p_value", "moves")))


async def _gone(scheduler: ServiceProcess, name: str) -> bool:
    return name not in await metrics(scheduler)


async def test_one_of_two_schedulers_compares(own_broker: NatsServer, embedder: ServiceProcess, tmp_path: Path) -> None:
    async with filled(own_broker):
        with scheduler(own_broker, tmp_path / "a") as first:
            await shown(first, outcome("compared"), 2)
            with scheduler(own_broker, tmp_path / "b") as second:
                before = (await metrics(first))[outcome("compared")]
                found = await shown(first, outcome("compared"), before + 4)
                assert of("question_drift_p_value", "moves") in found
                assert not any(outcome("compared") in name for name in await metrics(second))


async def test_a_broker_that_restarts_costs_rounds_and_no_more(
    own_broker: NatsServer, embedder: ServiceProcess, tmp_path: Path
) -> None:
    async with filled(own_broker):
        pass
    with scheduler(own_broker, tmp_path) as watching:
        found = await shown(watching, outcome("compared"), 2)
        own_broker.kill(signal.SIGTERM)
        own_broker.start()
        found = await shown(watching, outcome("compared"), found[outcome("compared")] + 4)
        assert found[of("question_drift_p_value", "moves")] == pytest.approx(0.001)
