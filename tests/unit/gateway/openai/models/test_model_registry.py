"""The directory knows models by what workers say of themselves, and asks again when it does not know."""

import asyncio

import pytest

from services.gateway.openai.models.model_registry import EMBED, GENERATE, ModelRegistry
from shared.contracts.problems import Problem, ProblemType
from sluice.api.status import ServiceStatus, StageStatus

pytestmark = pytest.mark.anyio


class FakeWorkers:
    """Services that a test starts and stops, and a clock that it moves."""

    def __init__(self) -> None:
        self.services: list[ServiceStatus] = []
        self.asked = 0
        self.questions: asyncio.Queue[int] = asyncio.Queue()
        self.now = 1000.0
        self.released = asyncio.Event()
        self.released.set()
        self.directory = ModelRegistry(self.call, lambda: self.now)

    async def call(self) -> list[ServiceStatus]:
        self.asked += 1
        self.questions.put_nowait(self.asked)
        await self.released.wait()
        return self.services

    def runs(self, *stages: tuple[str, str, str], since: float = 1.0) -> None:
        """A service whose stages are these: name, variant and model."""
        made = [
            StageStatus(stage=stage, variant=variant, model=model, lane_in_flight={}, room=1)
            for stage, variant, model in stages
        ]
        service = ServiceStatus(
            service="s", instance=f"s-{len(self.services)}", version="1", ready=True, started_at=since, stages=made
        )
        self.services.append(service)

    async def refusal(self, stage: str, name: str) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.directory.variant(stage, name)
        return caught.value


async def test_a_model_is_found_at_the_variant_that_runs_it() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "default", "big"), (GENERATE, "small", "small"), (EMBED, "default", "vectors"))
    assert await workers.directory.variant(GENERATE, "small") == "small"
    assert await workers.directory.variant(EMBED, "vectors") == "default"
    assert (await workers.refusal(EMBED, "big")).kind is ProblemType.MODEL_NOT_FOUND


async def test_the_default_variant_goes_first_where_several_run_a_model() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "canary", "big"))
    assert await workers.directory.variant(GENERATE, "big") == "canary"
    workers.runs((GENERATE, "default", "big"))
    workers.now += 10
    await workers.directory.all()
    assert await workers.directory.variant(GENERATE, "big") == "default"


async def test_a_known_model_costs_no_question_and_an_unknown_one_is_asked_for_first() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "default", "big"))
    for _ in range(3):
        await workers.directory.variant(GENERATE, "big")
    assert workers.asked == 1
    workers.now += 0.1
    workers.runs((GENERATE, "new", "new"))
    assert await workers.directory.variant(GENERATE, "new") == "new"
    assert workers.asked == 2


async def test_what_is_known_answers_at_once_and_is_looked_up_again_meanwhile() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "default", "big"))
    async with workers.directory.running():
        await workers.directory.variant(GENERATE, "big")
        workers.now += 5
        workers.released.clear()
        assert await workers.directory.variant(GENERATE, "big") == "default"
        assert [await workers.questions.get() for _ in range(2)] == [1, 2]


async def test_many_who_ask_at_once_are_one_question() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "default", "big"))
    workers.released.clear()
    plan = [asyncio.create_task(workers.directory.variant(GENERATE, "big")) for _ in range(10)]
    await workers.questions.get()
    workers.released.set()
    assert set(await asyncio.gather(*plan)) == {"default"}
    assert workers.asked == 1


async def test_a_model_whose_workers_are_away_is_remembered_for_a_while() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "default", "big"))
    await workers.directory.variant(GENERATE, "big")
    workers.services.clear()
    workers.now += 600
    assert [model.name for model in await workers.directory.all()] == ["big"]
    assert await workers.directory.variant(GENERATE, "big") == "default"
    workers.now += 600
    assert (await workers.refusal(GENERATE, "big")).kind is ProblemType.STAGE_UNAVAILABLE


async def test_a_variant_that_runs_another_model_now_has_forgotten_its_old_one() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "default", "old"))
    await workers.directory.variant(GENERATE, "old")
    workers.services.clear()
    workers.runs((GENERATE, "default", "new"))
    workers.now += 5
    await workers.directory.all()
    assert (await workers.refusal(GENERATE, "old")).kind is ProblemType.MODEL_NOT_FOUND


async def test_replicas_are_one_model_as_old_as_the_oldest() -> None:
    workers = FakeWorkers()
    workers.runs((GENERATE, "default", "big"), since=20.0)
    workers.runs((GENERATE, "default", "big"), since=10.0)
    (model,) = await workers.directory.all()
    assert model.since == 10.0


async def test_a_generator_without_a_model_is_told_apart_from_none() -> None:
    workers = FakeWorkers()
    assert (await workers.refusal(GENERATE, "big")).kind is ProblemType.STAGE_UNAVAILABLE
    workers.now += 5
    workers.runs((GENERATE, "default", ""))
    refused = await workers.refusal(GENERATE, "big")
    assert refused.kind is ProblemType.MODEL_NOT_FOUND
    assert "extractive" in refused.detail
