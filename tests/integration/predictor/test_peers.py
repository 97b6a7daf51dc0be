"""Calls that are answered where their model is in memory: predictors with room for few models, on one broker."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.predictor.frameworks.base import FrameworkOptions
from services.predictor.peers.directory import PeerDirectory
from services.predictor.peers.messages import LoadedModels, short_name
from services.predictor.peers.peers import Peers
from services.predictor.repository.loader import Loader
from services.predictor.repository.pool import HOT_PER_SECOND, ModelPool, PoolOptions
from services.predictor.repository.repository import Repository
from services.predictor.serving.arrays import to_array, to_tensor
from services.predictor.stages.predict import Predict
from shared.contracts.envelope import Lane, Query
from shared.contracts.inference import Call
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferRequest, Tensor
from shared.nats.client import Connection, connect
from shared.stores.tensors import TensorStore
from tests.harness.broker import NatsServer
from tests.harness.models import write_doubler
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

ROW = to_tensor("x", np.ones((1, 3), np.float32))
VARIANTS = iter(range(1_000))


@dataclass
class Predictor:
    """The parts of a predictor, in the process of the test."""

    client: Connection
    directory: PeerDirectory
    pool: ModelPool
    predict: Predict
    draining: asyncio.Event

    async def infer(self, model: str, row: Tensor = ROW, *, tenant: str = "default", seconds: float = 60) -> float:
        call = Call(model=model, request=InferRequest(inputs=(row,)))
        now = time.time()
        query = Query(
            id="q", tenant=tenant, lane=Lane.INTERACTIVE, asked_at=now, deadline=now + seconds, reply="-",
            slip=(call.stop(),),
        )  # fmt: skip
        results = (await self.predict(query, cast("Any", None))).results
        assert results is not None
        outcome = results.inference
        assert outcome is not None
        assert outcome.response is not None
        return float(to_array(outcome.response.outputs[0])[0, 0])

    @property
    def models(self) -> set[str]:
        return {model for model, _ in self.pool.held}

    async def knows(self, model: str) -> None:
        """Once another predictor has told that it has the model."""

        async def told() -> bool:
            return self.directory.holder(model, "1") is not None

        await until(told, f"a predictor with the model {model}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for number, model in enumerate("abc", start=1):
        write_doubler(tmp_path / model / "1", factor=float(number))
    (tmp_path / "c" / "model.yaml").write_text("tenants: [one]\n")
    return tmp_path


@pytest.fixture
def variant() -> str:
    return f"peers-{next(VARIANTS)}"


@asynccontextmanager
async def opened(broker: NatsServer, repository: Path, variant: str, name: str) -> AsyncIterator[Predictor]:
    """With room for one model."""
    client = await connect(broker.url)
    directory, draining = PeerDirectory(f"{variant}-{name}"), asyncio.Event()
    options = PoolOptions(budget=2**30, models=1, loads=2, calls=2, batch_rows=32, retry_seconds=1)
    pool = ModelPool(options, Loader(FrameworkOptions(threads=1)), is_spare=directory.is_spare)
    peers = Peers(client, directory, pool, variant=variant, room=100, draining=draining)
    try:
        async with (
            pool.running(),
            Repository(repository, seconds=0.05, changed=lambda: None).running() as models,
        ):
            predict = Predict(models, pool, peers, TensorStore(client.jetstream()), longest=2**20)
            async with peers.running(predict.infer_in_memory):
                yield Predictor(client, directory, pool, predict, draining)
    finally:
        await client.close()


@pytest.fixture
async def one(broker: NatsServer, repository: Path, variant: str) -> AsyncIterator[Predictor]:
    async with opened(broker, repository, variant, "one") as predictor:
        yield predictor


@pytest.fixture
async def two(broker: NatsServer, repository: Path, variant: str) -> AsyncIterator[Predictor]:
    async with opened(broker, repository, variant, "two") as predictor:
        yield predictor


async def have_a_model_each(one: Predictor, two: Predictor) -> None:
    assert (await one.infer("a"), await two.infer("b")) == (1.0, 2.0)
    await one.knows("b")
    await two.knows("a")


def forwarded(outcome: str) -> float:
    return REGISTRY.get_sample_value("sluice_predictor_forwarded_total", {"outcome": outcome}) or 0.0


async def test_a_call_is_answered_where_its_model_is(one: Predictor, two: Predictor) -> None:
    await have_a_model_each(one, two)
    before = forwarded("answered")
    assert (await one.infer("b"), await two.infer("a")) == (2.0, 1.0)
    assert (one.models, two.models) == ({"a"}, {"b"})
    assert forwarded("answered") == before + 2


async def test_a_model_is_loaded_where_there_is_room(broker: NatsServer, repository: Path, variant: str) -> None:
    async with opened(broker, repository, variant, "one") as one, opened(broker, repository, variant, "two") as two:
        assert await one.infer("a") == 1.0
        await two.knows("a")
        assert await two.infer("a") == 1.0
        assert (one.models, two.models) == ({"a"}, {"a"})


async def test_other_variants_are_not_asked(broker: NatsServer, repository: Path, variant: str) -> None:
    async with opened(broker, repository, variant, "one") as one, opened(broker, repository, "other", "two") as two:
        await two.infer("b")
        await one.infer("a")
        assert await one.infer("b") == 2.0
        assert one.models == {"b"}


async def test_a_problem_of_the_call_comes_back(one: Predictor, two: Predictor) -> None:
    await have_a_model_each(one, two)
    with pytest.raises(Problem) as raised:
        await one.infer("b", to_tensor("x", np.ones((1, 7), np.float32)))
    assert raised.value.kind is ProblemType.INVALID_REQUEST
    assert one.models == {"a"}


async def test_a_tenant_that_may_not_use_a_model_may_not_anywhere(one: Predictor, two: Predictor) -> None:
    await one.infer("a")
    assert await two.infer("c", tenant="one") == 3.0
    await one.knows("c")
    assert await one.infer("c", tenant="one") == 3.0
    with pytest.raises(Problem) as raised:
        await one.infer("c", tenant="two")
    assert raised.value.kind is ProblemType.MODEL_NOT_FOUND


async def test_who_has_dropped_the_model_refuses_and_it_is_loaded_here(one: Predictor, two: Predictor) -> None:
    await have_a_model_each(one, two)
    before = forwarded("refused")
    two.pool.unload("b")
    assert await one.infer("b") == 2.0
    assert one.models == {"b"}
    assert forwarded("refused") == before + 1


async def test_a_predictor_that_drains_is_asked_no_more(one: Predictor, two: Predictor) -> None:
    await have_a_model_each(one, two)
    two.draining.set()
    assert await one.infer("b") == 2.0
    assert one.models == {"b"}


async def test_a_predictor_that_is_gone_is_missed_at_once(
    one: Predictor, broker: NatsServer, repository: Path, variant: str
) -> None:
    async with opened(broker, repository, variant, "two") as two:
        await have_a_model_each(one, two)
        await two.client.close()
        before = forwarded("lost")
        assert await one.infer("b") == 2.0
        assert forwarded("lost") == before + 1
        assert one.models == {"b"}
        assert one.directory.holder("b", "1") is None


async def test_a_predictor_that_falls_silent_during_a_call_is_waited_for_until_it_counts_as_lost(
    one: Predictor, broker: NatsServer
) -> None:
    await one.infer("a")
    silent = await connect(broker.url)
    heard = asyncio.Event()
    await silent.listen("control.predictor.call.silent", lambda _: heard.set())
    await silent.flush()
    try:
        one.directory.hear(LoadedModels(predictor="silent", models=frozenset({short_name("b", "1")})))
        assert await one.infer("b") == 2.0
        assert heard.is_set()
        assert one.models == {"b"}
    finally:
        await silent.close()


async def test_a_model_that_is_asked_for_often_gets_a_copy(broker: NatsServer, repository: Path, variant: str) -> None:
    async with opened(broker, repository, variant, "one") as one, opened(broker, repository, variant, "two") as two:
        await have_a_model_each(one, two)
        # At once, so that they are many in a second on any machine.
        answers = await asyncio.gather(*(two.infer("a") for _ in range(int(HOT_PER_SECOND * 15))))
        assert set(answers) == {1.0}
        assert (one.models, two.models) == ({"a"}, {"a"})


async def test_a_copy_that_another_has_goes_first_unless_it_is_used_much(tmp_path: Path) -> None:
    spare = {"old": False, "copy": True, "hot": True}
    options = PoolOptions(budget=2**30, models=3, loads=1, calls=1, batch_rows=32, retry_seconds=1)
    for model in (*spare, "next", "last"):
        write_doubler(tmp_path / model / "1")
    loader = Loader(FrameworkOptions(threads=1))
    async with (
        ModelPool(options, loader, is_spare=lambda model, _: spare.get(model, False)).running() as pool,
        Repository(tmp_path, seconds=1, changed=lambda: None).running() as models,
    ):

        async def use(model: str) -> None:
            async with pool.model(models.candidates(model, "", "default")[0]):
                pass

        for model in ("old", "hot", "copy"):
            await use(model)
        for _ in range(int(HOT_PER_SECOND * 20)):
            await use("hot")
        await use("next")
        assert {model for model, _ in pool.held} == {"old", "hot", "next"}
        await use("last")
        assert {model for model, _ in pool.held} == {"hot", "next", "last"}
