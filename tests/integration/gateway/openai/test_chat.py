"""Chat, completions and models through the real SDK of OpenAI, answered by stages over the broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from shared.contracts.envelope import Query
from shared.contracts.events import Usage
from shared.contracts.generation import GenerateParams, TokenLogprob, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context, Process
from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL, openai_client, openai_client_async, running_gateway
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
async def client(gateway: ServiceProcess) -> AsyncIterator[AsyncOpenAI]:
    async with openai_client_async(gateway) as client:
        yield client


@pytest.fixture
async def stages(broker: NatsServer) -> AsyncIterator[Stages]:
    """A generator whose model is `MODEL`; a test says what it does."""
    stages = Stages(broker.url)
    stages.models["generate"] = MODEL
    stages.does["generate"] = saying("Hello ", "world")
    async with stages.running(("generate",)):
        yield stages


def saying(*pieces: str, **end: Any) -> Process:
    async def generate(query: Query, context: Context) -> None:
        await context.sources(query.passages)
        for piece in pieces:
            await context.delta(piece, logprobs=(TokenLogprob(token=piece, logprob=-0.5, top=((piece, -0.5),)),))
        usage = Usage(prompt_tokens=7, completion_tokens=len(pieces), cached_tokens=4)
        await context.done(usage=usage, engine="tiny", model=MODEL, **end)

    return generate


def failing(problem: ProblemType, *pieces: str) -> Process:
    async def generate(_: Query, context: Context) -> None:
        for piece in pieces:
            await context.delta(piece)
        raise Problem(problem, "That is how it is.")

    return generate


async def calling(_: Query, context: Context) -> None:
    """Asks for the weather in two pieces."""
    await context.delta(tool_calls=(ToolCallDelta(index=0, id="call_1", name="weather", arguments='{"city": '),))
    await context.delta(tool_calls=(ToolCallDelta(index=0, arguments='"Bonn"}'),))
    await context.done(usage=Usage(), engine="tiny", model=MODEL, finish="tool_calls")


def params(stages: Stages) -> GenerateParams:
    return GenerateParams.of(stages.given["generate"][-1].stop.params)


async def test_a_chat_is_answered_in_the_shape_that_the_sdk_knows(client: AsyncOpenAI, stages: Stages) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.id == f"chatcmpl-{stages.given['generate'][0].id}"
    assert answer.system_fingerprint is not None
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Hello world", "stop")
    assert (choice.message.refusal, choice.message.tool_calls, choice.logprobs) == (None, None, None)
    usage = answer.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 2, 9)
    assert usage.prompt_tokens_details.cached_tokens == 4
    said = (answer.model_extra or {})["sluice"]
    assert (said["engine"], said["model"], said["trace_id"]) == ("tiny", MODEL, answer._request_id)
    assert said["context"]["dropped_turns"] == 0
    assert "sources" not in said


async def test_the_conversation_reaches_the_generator_as_it_is(client: AsyncOpenAI, stages: Stages) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    turns: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "assistant", "content": "three"},
        *HELLO,
    ]
    await client.chat.completions.create(model=MODEL, messages=turns)
    (query,) = stages.given["generate"]
    assert [stop.stage for stop in query.slip] == ["generate"]
    assert params(stages).mode == "chat"
    assert [(turn.role, turn.content) for turn in query.messages] == [
        ("system", "Be brief."),
        ("user", "one\ntwo"),
        ("assistant", "three"),
        ("user", "Say hello."),
    ]
    assert query.messages[1].model_extra == {"name": "ann"}


async def test_sampling_reaches_the_generator_in_openai_s_words_and_in_vllm_s(
    client: AsyncOpenAI, stages: Stages
) -> None:
    await client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_completion_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=["a", "b"],
        seed=3,
        presence_penalty=1,
        frequency_penalty=-1,
        logprobs=True,
        top_logprobs=2,
        user="ann",
        metadata={"a": "b"},
        reasoning_effort="low",
        extra_body={"top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True, "min_tokens": 1},
    )
    assert params(stages) == GenerateParams(
        mode="chat",
        max_tokens=9,
        min_tokens=1,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.1,
        stop=("a", "b"),
        seed=3,
        ignore_eos=True,
        logprobs=2,
    )


async def test_a_stream_begins_with_the_role_and_ends_with_the_reason(client: AsyncOpenAI, stages: Stages) -> None:
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" and chunk.usage is None for chunk in chunks)
    assert (chunks[-1].model_extra or {})["sluice"]["engine"] == "tiny"


async def test_a_stream_tells_the_usage_in_a_chunk_of_its_own_if_asked(client: AsyncOpenAI, stages: Stages) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 9


def test_the_blocking_sdk_works_as_well(broker: NatsServer, gateway: ServiceProcess) -> None:
    async def serve(asked: asyncio.Event, done: asyncio.Event) -> None:
        stages = Stages(broker.url)
        stages.models["generate"] = MODEL
        stages.does["generate"] = saying("Hello ", "world")
        async with stages.running(("generate",)):
            asked.set()
            await done.wait()

    def ask() -> None:
        with openai_client(gateway) as client:
            assert MODEL in [model.id for model in client.models.list()]
            answer = client.chat.completions.create(model=MODEL, messages=HELLO)
            assert answer.choices[0].message.content == "Hello world"
            stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello world"
            with client.chat.completions.stream(model=MODEL, messages=HELLO) as events:
                whole = events.get_final_completion()
            assert whole.choices[0].message.content == "Hello world"
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model="nobody", messages=HELLO)

    async def both() -> None:
        asked, done = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(asked, done))
            await asked.wait()
            try:
                await asyncio.to_thread(ask)
            finally:
                done.set()

    asyncio.run(both())


async def test_logprobs_come_in_openai_s_shape(client: AsyncOpenAI, stages: Stages) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=1)
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert [(token.token, token.logprob, token.bytes) for token in tokens] == [
        ("Hello ", -0.5, list(b"Hello ")),
        ("world", -0.5, list(b"world")),
    ]
    assert tokens[0].top_logprobs[0].token == "Hello "
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, stream=True)
    found = [c.choices[0].logprobs.content or [] async for c in stream if c.choices[0].logprobs]
    assert [token.token for some in found for token in some] == ["Hello ", "world"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called_and_its_result_goes_back(client: AsyncOpenAI, stages: Stages, streamed: bool) -> None:
    stages.does["generate"] = calling
    question = [{"role": "user", "content": "How is the weather in Bonn?"}]
    asked: dict[str, Any] = {"model": MODEL, "messages": question, "tools": [WEATHER], "tool_choice": "required"}
    if streamed:
        async with client.chat.completions.stream(**asked) as events:
            message: Any = (await events.get_final_completion()).choices[0].message
    else:
        answer = await client.chat.completions.create(**asked)
        message = answer.choices[0].message
        assert (answer.choices[0].finish_reason, message.content) == ("tool_calls", None)
    (call,) = message.tool_calls
    assert (call.id, call.type, call.function.name) == ("call_1", "function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Bonn"}
    assert (params(stages).tools[0]["function"], params(stages).tool_choice) == (WEATHER["function"], "required")

    stages.does["generate"] = saying("Sunny.")
    said = {"role": "assistant", "content": None, "tool_calls": [call.model_dump(include={"id", "type", "function"})]}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    turns: list[Any] = [*question, said, result]
    named: Any = {"type": "function", "function": {"name": "weather"}}
    answer = await client.chat.completions.create(model=MODEL, messages=turns, tools=[WEATHER], tool_choice=named)
    assert answer.choices[0].message.content == "Sunny."
    _, assistant, tool = stages.given["generate"][-1].messages
    assert (assistant.model_extra or {})["tool_calls"][0]["function"]["name"] == "weather"
    assert tool.model_extra == {"tool_call_id": "call_1"}
    assert params(stages).tool_choice == "function:weather"


async def test_a_schema_reaches_the_generator_and_its_answer_is_parsed(client: AsyncOpenAI, stages: Stages) -> None:
    class City(BaseModel):
        name: str

    stages.does["generate"] = saying('{"name": ', '"Bonn"}')
    answer = await client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Bonn")
    asked = params(stages).output
    assert asked is not None
    assert asked.json_schema is not None
    assert asked.json_schema["required"] == ["name"]


@pytest.mark.parametrize(
    ("asked", "output"),
    [
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        ({"response_format": {"type": "text"}}, None),
        ({"structured_outputs": {"regex": "a+"}}, {"regex": "a+"}),
        ({"structured_outputs": {"json": '{"type": "object"}'}}, {"json_schema": {"type": "object"}}),
        ({"guided_choice": ["yes", "no"]}, {"choice": ["yes", "no"]}),
        ({"guided_grammar": "root ::= 'a'"}, {"grammar": "root ::= 'a'"}),
    ],
)
async def test_an_answer_s_format_can_be_named_in_several_ways(
    client: AsyncOpenAI, stages: Stages, asked: dict[str, Any], output: dict[str, Any] | None
) -> None:
    await client.chat.completions.create(model=MODEL, messages=HELLO, extra_body=asked)
    assert stages.given["generate"][-1].stop.params.get("output") == output


async def test_reasoning_is_told_apart_from_the_answer(client: AsyncOpenAI, stages: Stages) -> None:
    async def thinking(_: Query, context: Context) -> None:
        await context.delta(reasoning="Hm. ")
        await context.delta("Yes.")
        await context.done(usage=Usage(), engine="tiny", model=MODEL, finish="length")

    stages.does["generate"] = thinking
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
    message: Any = answer.choices[0].message
    assert (message.reasoning_content, message.content, answer.choices[0].finish_reason) == ("Hm. ", "Yes.", "length")
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    deltas: list[Any] = [chunk.choices[0].delta async for chunk in stream]
    assert [getattr(delta, "reasoning_content", None) for delta in deltas] == [None, "Hm. ", None, None]


async def test_a_text_is_completed_and_streamed(client: AsyncOpenAI, stages: Stages) -> None:
    whole = await client.completions.create(model=MODEL, prompt=" Once", max_tokens=5, logprobs=1)
    (query,) = stages.given["generate"]
    assert (query.question, params(stages).mode, params(stages).logprobs) == (" Once", "completion", 1)
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
        "text_completion",
        "Hello world",
        "stop",
    )
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.tokens == ["Hello ", "world"]
    assert whole.choices[0].logprobs.text_offset == [0, 6]
    assert whole.usage is not None
    assert whole.usage.total_tokens == 9
    stream = await client.completions.create(
        model=MODEL, prompt=["Once"], stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello world"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens == 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_stops_the_generator(client: AsyncOpenAI, stages: Stages, streamed: bool) -> None:
    stopped = asyncio.Event()

    async def endless(_: Query, context: Context) -> None:
        try:
            while True:
                await context.delta("more ")
                await asyncio.sleep(0.01)
        finally:
            stopped.set()

    stages.does["generate"] = endless
    if streamed:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        await anext(stream.__aiter__())
        await stream.close()
    else:
        pending = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=HELLO))
        await stages.arrived("generate")
        pending.cancel()
    async with asyncio.timeout(10):
        await stopped.wait()


async def test_models_are_listed_and_found_by_name(client: AsyncOpenAI, stages: Stages) -> None:
    models = {model.id: model async for model in client.models.list()}
    assert {MODEL, "rag/default", "rag/docs"} <= set(models)
    assert models[MODEL].owned_by == "sluice"
    for name in (MODEL, "rag/docs", "rag"):
        found = await client.models.retrieve(name)
        assert (found.id, found.object) == (name, "model")
        assert found.created > 0
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("rag/nothing")
    assert caught.value.code == "model_not_found"


async def test_a_model_that_nobody_runs_is_not_found(client: AsyncOpenAI, stages: Stages) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert (caught.value.code, caught.value.param, caught.value.type) == (
        "model_not_found",
        "model",
        "invalid_request_error",
    )
    assert MODEL in caught.value.message
    assert caught.value.request_id


async def test_a_generator_without_a_model_says_that_only_documents_can_be_asked(
    broker: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_gateway(broker, tmp_path_factory.mktemp("extractive"), [{"name": "default"}]) as gateway:
        async with Stages(broker.url).running(("generate",)), openai_client_async(gateway) as client:
            with pytest.raises(openai.NotFoundError, match="rag/<collection>"):
                await client.chat.completions.create(model=MODEL, messages=HELLO)


async def test_names_of_a_generator_that_is_away_are_remembered_and_unknown_ones_are_not_denied(
    broker: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stages = Stages(broker.url)
    stages.models["generate"] = MODEL
    stages.does["generate"] = saying("Back.")
    with running_gateway(broker, tmp_path_factory.mktemp("away"), [{"name": "default"}]) as gateway:
        async with openai_client_async(gateway) as client:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(model=MODEL, messages=HELLO)
            assert (caught.value.status_code, caught.value.code) == (503, "stage-unavailable")
            async with stages.running(("generate",)):
                await client.chat.completions.create(model=MODEL, messages=HELLO)
            waiting = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=HELLO))
            async with stages.running(("generate",)):
                assert (await waiting).choices[0].message.content == "Back."


async def test_responses_and_errors_name_the_request(gateway: ServiceProcess) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        for path in ("/v1/models", "/v1/models/nothing"):
            response = await http.get(path)
            assert response.headers["x-request-id"] == response.headers["x-trace-id"]
