"""The directory knows models by what workers say of themselves, and asks again when it does not know."""

import asyncio

import pytest

from services.gateway.admin.discovery import ServiceBody, StageBody
from services.gateway.openai.models.model_registry import EMBED, GENERATE, ModelRegistry
from shared.contracts.problems import Problem, ProblemType

pytestmark = pytest.mark.anyio


class Fleet:
    """Services that a test starts and stops, and a clock that it moves."""

    def __init__(self) -> None:
        self.services: list[ServiceBody] = []
        self.asked = 0
        self.questions: asyncio.Queue[int] = asyncio.Queue()
        self.now = 1000.0
        self.answering = asyncio.Event()
        self.answering.set()
        self.directory = ModelRegistry(self.call, lambda: self.now)

    async def call(self) -> list[ServiceBody]:
        self.asked += 1
        self.questions.put_nowait(self.asked)
        await self.answering.wait()
        return self.services

    def runs(self, *stages: tuple[str, str, str], since: float = 1.0) -> None:
        """A service whose stages are these: name, variant and model."""
        made = [
            StageBody(stage=stage, variant=variant, model=model, lane_in_flight={}, room=1)
            for stage, variant, model in stages
        ]
        service = ServiceBody(
            service="s", instance=f"s-{len(self.services)}", version="1", ready=True, started_at=since, stages=made
        )
        self.services.append(service)

    async def refusal(self, stage: str, name: str) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.directory.variant(stage, name)
        return caught.value


async def test_a_model_is_found_at_the_variant_that_runs_it() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "default", "big"), (GENERATE, "small", "small"), (EMBED, "default", "vectors"))
    assert await fleet.directory.variant(GENERATE, "small") == "small"
    assert await fleet.directory.variant(EMBED, "vectors") == "default"
    assert (await fleet.refusal(EMBED, "big")).kind is ProblemType.MODEL_NOT_FOUND


async def test_the_default_variant_goes_first_where_several_run_a_model() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "canary", "big"))
    assert await fleet.directory.variant(GENERATE, "big") == "canary"
    fleet.runs((GENERATE, "default", "big"))
    fleet.now += 10
    await fleet.directory.all()
    assert await fleet.directory.variant(GENERATE, "big") == "default"


async def test_a_known_model_costs_no_question_and_an_unknown_one_is_asked_for_first() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "default", "big"))
    for _ in range(3):
        await fleet.directory.variant(GENERATE, "big")
    assert fleet.asked == 1
    fleet.now += 0.1
    fleet.runs((GENERATE, "new", "new"))
    assert await fleet.directory.variant(GENERATE, "new") == "new"
    assert fleet.asked == 2


async def test_what_is_known_answers_at_once_and_is_looked_up_again_meanwhile() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "default", "big"))
    async with fleet.directory.running():
        await fleet.directory.variant(GENERATE, "big")
        fleet.now += 5
        fleet.answering.clear()
        assert await fleet.directory.variant(GENERATE, "big") == "default"
        assert [await fleet.questions.get() for _ in range(2)] == [1, 2]


async def test_many_who_ask_at_once_are_one_question() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "default", "big"))
    fleet.answering.clear()
    plan = [asyncio.create_task(fleet.directory.variant(GENERATE, "big")) for _ in range(10)]
    await fleet.questions.get()
    fleet.answering.set()
    assert set(await asyncio.gather(*plan)) == {"default"}
    assert fleet.asked == 1


async def test_a_model_whose_workers_are_away_is_remembered_for_a_while() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "default", "big"))
    await fleet.directory.variant(GENERATE, "big")
    fleet.services.clear()
    fleet.now += 600
    assert [model.name for model in await fleet.directory.all()] == ["big"]
    assert await fleet.directory.variant(GENERATE, "big") == "default"
    fleet.now += 600
    assert (await fleet.refusal(GENERATE, "big")).kind is ProblemType.STAGE_UNAVAILABLE


async def test_a_variant_that_runs_another_model_now_has_forgotten_its_old_one() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "default", "old"))
    await fleet.directory.variant(GENERATE, "old")
    fleet.services.clear()
    fleet.runs((GENERATE, "default", "new"))
    fleet.now += 5
    await fleet.directory.all()
    assert (await fleet.refusal(GENERATE, "old")).kind is ProblemType.MODEL_NOT_FOUND


async def test_replicas_are_one_model_as_old_as_the_oldest() -> None:
    fleet = Fleet()
    fleet.runs((GENERATE, "default", "big"), since=20.0)
    fleet.runs((GENERATE, "default", "big"), since=10.0)
    (model,) = await fleet.directory.all()
    assert model.since == 10.0


async def test_a_generator_without_a_model_is_told_apart_from_none() -> None:
    fleet = Fleet()
    assert (await fleet.refusal(GENERATE, "big")).kind is ProblemType.STAGE_UNAVAILABLE
    fleet.now += 5
    fleet.runs((GENERATE, "default", ""))
    refused = await fleet.refusal(GENERATE, "big")
    assert refused.kind is ProblemType.MODEL_NOT_FOUND
    assert "extractive" in refused.detail
