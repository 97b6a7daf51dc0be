"""The contract of engines, for every engine; and what only the OpenAI engine promises, over real HTTP."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing

import anyio
import pytest
from pydantic import SecretStr

from services.generator.engines import EngineName, create_engine
from services.generator.engines.base import (
    Engine,
    Finish,
    FinishReason,
    Item,
    Prompt,
    PromptPassage,
    TextDelta,
)
from services.generator.engines.extractive import ExtractiveConfig
from services.generator.engines.openai import OpenAIConfig, OpenAIEngine
from shared.generation import GenerateParams
from shared.problems import Problem, ProblemType
from shared.reply import Usage
from tests.harness.model_server import WORDS, ModelServer

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


async def started(stack: AsyncExitStack, engine_config: OpenAIConfig) -> Engine:
    engine = create_engine(engine_config)
    await engine.start()
    stack.push_async_callback(engine.close)
    return engine


async def collect(engine: Engine, prompt: Prompt = PROMPT) -> list[Item]:
    return [item async for item in engine.generate(await engine.prepare(prompt))]


def deltas(words: Iterable[str]) -> list[TextDelta]:
    return [TextDelta(text=word) for word in words]


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


class TestOpenAI:
    """Requests, failures and hanging up."""

    @pytest.fixture
    async def stack(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    async def test_it_streams_what_the_server_writes_with_the_usage_it_reports(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        items = await collect(await started(stack, config(server)))

        assert items == [
            *deltas(WORDS),
            Finish(FinishReason.STOP, Usage(prompt_tokens=11, completion_tokens=5, cached_tokens=8)),
        ]

    async def test_parameters_and_sources_reach_the_server(self, server: ModelServer, stack: AsyncExitStack) -> None:
        params = GenerateParams(max_tokens=7, temperature=0.5, stop=("END",), seed=3)
        engine = await started(stack, config(server))
        await collect(engine, Prompt(question="Why?", passages=PROMPT.passages, params=params))

        request = server.requests[0]
        assert request["model"] == "tiny"
        assert (request["max_tokens"], request["temperature"], request["stop"], request["seed"]) == (7, 0.5, ["END"], 3)
        assert [message["role"] for message in request["messages"]] == ["system", "user"]
        assert "The tower is 300 metres high." in request["messages"][1]["content"]

    async def test_without_a_name_it_takes_the_first_model_listed(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        server.models = ("qwen", "llama")
        await collect(await started(stack, config(server, model="")))

        assert server.requests[0]["model"] == "qwen"

    async def test_a_server_that_lists_no_model_needs_a_name(self, server: ModelServer) -> None:
        server.models = ()
        with pytest.raises(Problem, match="name one"):
            await create_engine(config(server, model="")).start()

    async def test_answers_one_after_another_reuse_the_connection(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server))
        for _ in range(3):
            await collect(engine)

        assert len(server.connections) == 1

    async def test_no_more_answers_than_room_reach_the_server_at_once(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server, room=2))
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(collect, engine)

        assert len(server.requests) == 8
        assert server.most_serving <= 2

    async def test_a_wrong_key_fails_the_start_and_is_never_shown(self, server: ModelServer) -> None:
        engine = create_engine(config(server, api_key=SecretStr("sk-wrong-key")))
        with pytest.raises(Problem) as caught:
            await engine.start()

        problem = caught.value
        assert problem.kind is ProblemType.ENGINE_FAILED
        assert problem.extras == {"upstream_status": 401}
        assert "sk-wrong-key" not in str(problem) + repr(problem) + repr(engine.__dict__)
        assert problem.__cause__ is None

    async def test_busy_and_failing_servers_are_asked_again_before_the_first_delta(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server, max_retries=2))
        server.failures = [429, 500]

        assert written(await collect(engine)) == "".join(WORDS)
        assert len(server.requests) == 3

    async def test_retries_are_bounded_and_the_problem_carries_the_status(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server, max_retries=1))
        server.failures = [500] * 5
        with pytest.raises(Problem) as caught:
            await collect(engine)

        assert caught.value.extras == {"upstream_status": 500}
        assert server.key not in caught.value.detail
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        ("mode", "said"),
        [
            ("break", "connection"),
            ("end", "early"),
            ("error", "out of memory"),
            ("filter", "content filter"),
        ],
    )
    async def test_a_stream_that_goes_wrong_is_a_problem_after_its_deltas_and_is_not_retried(
        self, server: ModelServer, stack: AsyncExitStack, mode: str, said: str
    ) -> None:
        engine = await started(stack, config(server))
        server.mode = mode
        answer = engine.generate(await engine.prepare(PROMPT))
        assert [await anext(answer), await anext(answer)] == deltas(WORDS[:2])
        with pytest.raises(Problem, match=said) as caught:
            await anext(answer)

        assert caught.value.kind is ProblemType.ENGINE_FAILED
        assert len(server.requests) == 1

    async def test_what_is_not_the_api_is_a_problem(self, server: ModelServer, stack: AsyncExitStack) -> None:
        engine = await started(stack, config(server))
        server.mode = "garbage"
        with pytest.raises(Problem, match="not the OpenAI API"):
            await collect(engine)

    @pytest.mark.parametrize("mode", ["hang", "stall"])
    async def test_a_silent_server_is_a_problem_after_the_timeout(
        self, server: ModelServer, stack: AsyncExitStack, mode: str
    ) -> None:
        engine = await started(stack, config(server, max_retries=0, first_token=0.3, silence=0.3))
        server.mode = mode
        with pytest.raises(Problem, match=r"silent for 0\.3 seconds"):
            await collect(engine)
        await server.disconnected.wait()

    async def test_no_server_is_a_problem(self) -> None:
        engine = OpenAIEngine(OpenAIConfig(base_url="http://127.0.0.1:9/v1", max_retries=0))
        with pytest.raises(Problem, match="connection to the model server failed"):
            await engine.start()

    async def test_an_answer_cut_at_its_length_says_so_and_usage_is_estimated_if_need_be(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server))
        server.mode, server.usage = "length", False
        finish = (await collect(engine))[-1]

        assert isinstance(finish, Finish)
        assert finish.reason is FinishReason.LENGTH
        assert finish.usage.completion_tokens == 2
        assert finish.usage.prompt_tokens > 50

    async def test_the_server_sees_at_once_that_a_reader_closed_the_answer(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server))
        server.mode = "endless"
        async with aclosing(engine.generate(await engine.prepare(PROMPT))) as answer:
            await anext(answer)

        await server.disconnected.wait()

    @pytest.mark.parametrize("mode", ["endless", "stall", "hang"])
    async def test_the_server_sees_that_a_cancelled_reader_has_gone(
        self, server: ModelServer, stack: AsyncExitStack, mode: str
    ) -> None:
        engine = await started(stack, config(server))
        server.mode = mode
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, engine)
            await server.asked.wait()
            tasks.cancel_scope.cancel()

        await server.disconnected.wait()
