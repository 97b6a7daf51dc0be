"""The contract of engines, for every engine that runs in this environment; `openai` over real HTTP."""

import re
from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import pytest
from pydantic import SecretStr

from services.generator.engines import EngineName, create_engine
from services.generator.engines.base import (
    Engine,
    Finish,
    Item,
    Prompt,
    PromptPassage,
    TextDelta,
)
from services.generator.engines.extractive.engine import ExtractiveConfig
from services.generator.engines.openai import OpenAIConfig
from tests.harness.model_server import ModelServer

pytestmark = pytest.mark.anyio

PROMPT = Prompt(
    question="How high is the tower?",
    passages=(
        PromptPassage(index=1, text="The tower is 300 metres high. It was built in 1889.", document="tower.md"),
        PromptPassage(index=2, text="With its antenna the tower is 330 metres high.", document="antenna.md"),
    ),
)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer().run() as server:
        yield server


def config(server: ModelServer, **changes: object) -> OpenAIConfig:
    fixed = {"base_url": server.base_url, "model": "tiny", "api_key": SecretStr(server.key), "room": 4}
    return OpenAIConfig(**(fixed | changes))  # type: ignore[arg-type]


async def collect(engine: Engine, prompt: Prompt = PROMPT) -> list[Item]:
    return [item async for item in engine.generate(await engine.prepare(prompt))]


def written(items: list[Item]) -> str:
    return "".join(item.text for item in items if isinstance(item, TextDelta))


@pytest.fixture(params=[EngineName.EXTRACTIVE, EngineName.OPENAI])
async def engine(request: pytest.FixtureRequest, server: ModelServer) -> AsyncIterator[Engine]:
    configs = {
        EngineName.EXTRACTIVE: ExtractiveConfig(room=4),
        EngineName.OPENAI: config(server),
    }
    engine = create_engine(configs[request.param])
    await engine.start()
    yield engine
    await engine.close()


class TestEveryEngine:
    """What the docstring of `Engine` promises."""

    async def test_is_an_engine_with_a_name_and_room(self, engine: Engine) -> None:
        assert isinstance(engine, Engine)
        assert engine.name in set(EngineName)
        assert engine.room == 4

    async def test_deltas_come_first_and_exactly_one_finish_comes_last(self, engine: Engine) -> None:
        items = await collect(engine)

        assert len(items) >= 2
        assert all(isinstance(item, TextDelta) and item.text for item in items[:-1])
        assert isinstance(items[-1], Finish)
        assert items[-1].usage.prompt_tokens > 0
        assert items[-1].usage.completion_tokens > 0

    async def test_citations_point_at_given_passages_only(self, engine: Engine) -> None:
        cited = {int(number) for number in re.findall(r"\[(\d+)\]", written(await collect(engine)))}

        assert cited
        assert cited <= {1, 2}

    async def test_many_calls_at_once_each_get_their_whole_answer(self, engine: Engine) -> None:
        alone = await collect(engine)
        together: list[list[Item]] = []

        async def one() -> None:
            together.append(await collect(engine))

        async with anyio.create_task_group() as tasks:
            for _ in range(3 * engine.room):
                tasks.start_soon(one)

        assert together == [alone] * (3 * engine.room)

    async def test_a_call_that_is_closed_early_gives_its_place_back(self, engine: Engine) -> None:
        for _ in range(2 * engine.room):
            async with aclosing(engine.generate(await engine.prepare(PROMPT))) as answer:
                assert isinstance(await anext(answer), TextDelta)

        assert isinstance((await collect(engine))[-1], Finish)

    async def test_a_call_that_is_cancelled_gives_its_place_back(self, engine: Engine) -> None:
        for _ in range(2 * engine.room):
            with anyio.CancelScope() as scope:
                async for _item in engine.generate(await engine.prepare(PROMPT)):
                    scope.cancel()
            assert scope.cancelled_caught

        assert isinstance((await collect(engine))[-1], Finish)

    async def test_a_question_without_passages_is_answered(self, engine: Engine) -> None:
        items = await collect(engine, Prompt(question="Anything?"))

        assert written(items)
        assert isinstance(items[-1], Finish)

    async def test_it_can_be_closed_twice_and_started_again(self, engine: Engine) -> None:
        await engine.close()
        await engine.close()
        await engine.start()

        assert isinstance((await collect(engine))[-1], Finish)
