"""Whatever goes wrong in OpenAI's form of the API, the real SDK raises what it raises for OpenAI itself."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from shared.contracts.envelope import Query
from shared.contracts.events import Usage
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context, Process
from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL, openai_client_async
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
IMAGE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
TOOL = {"type": "function", "function": {"name": "weather"}}
OTHER = {"type": "function", "function": {"name": "other"}}


@pytest.fixture
async def client(gateway: ServiceProcess) -> AsyncIterator[AsyncOpenAI]:
    async with openai_client_async(gateway) as client:
        yield client


@pytest.fixture
async def http(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as http:
        yield http


@pytest.fixture
async def stages(broker: NatsServer) -> AsyncIterator[Stages]:
    stages = Stages(broker.url)
    stages.models["generate"] = MODEL
    async with stages.running(("embed", "retrieve", "generate")):
        yield stages


def failing(problem: ProblemType, *pieces: str) -> Process:
    async def generate(_: Query, context: Context) -> None:
        for piece in pieces:
            await context.delta(piece)
        raise Problem(problem, "That is how it is.")

    return generate


@pytest.mark.parametrize(
    ("member", "value", "param"),
    [
        ("temperature", 3, "temperature"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", "many", "max_tokens"),
        ("stop", [""], "stop[0]"),
        ("stop", ["x"] * 17, "stop"),
        ("n", 2, "n"),
        ("top_logprobs", 2, "top_logprobs"),
        ("logit_bias", {"50256": -100}, "logit_bias"),
        ("functions", [{"name": "weather"}], "functions"),
        ("modalities", ["text", "audio"], "modalities"),
        ("audio", {"voice": "alloy", "format": "wav"}, "audio"),
        ("messages", [], "messages"),
        ("messages", [{"role": "robot", "content": "x"}], "messages[0].role"),
        ("messages", [{"role": "user"}], "messages[0]"),
        ("messages", [*HELLO, {"role": "user", "content": IMAGE}], "messages[1].content"),
        ("messages", [{"role": "assistant", "tool_calls": [{"id": "1"}]}], "messages[0].tool_calls[0].function"),
        ("tools", [{"type": "web_search"}], "tools[0].type"),
        ("tool_choice", "required", "tool_choice"),
        ("response_format", {"type": "xml"}, "response_format.type"),
        ("response_format", {"type": "json_schema"}, "response_format"),
        ("structured_outputs", {"regex": "x" * 10_001}, "structured_outputs.regex"),
        ("guided_json", "{", "guided_json"),
        ("sluice", {"topk": 3}, "sluice.topk"),
        ("sluice", {"top_k": 0}, "sluice.top_k"),
        ("stream_options", "yes", "stream_options"),
    ],
)
async def test_a_member_that_cannot_be_right_is_named(client: AsyncOpenAI, member: str, value: Any, param: str) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, member: value}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/chat/completions", body=asked, cast_to=object)
    assert (caught.value.param, caught.value.code) == (param, "invalid-request")
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": [TOOL], "tool_choice": OTHER},
        {"response_format": {"type": "json_object"}, "guided_regex": "a"},
        {"model": "rag/docs", "tools": [TOOL]},
        {"model": "rag/docs", "messages": [*HELLO, {"role": "assistant", "content": "Hello"}]},
        {"model": "rag/docs", "sluice": {"collection": "default"}},
        {"model": "rag/docs", "messages": [{"role": "user", "content": "  "}]},
        {"model": "rag/docs", "sluice": {"filter": {"year": {"$near": 1}}}},
        {"sluice": {"timeout": 0.01}},
    ],
)
async def test_members_that_do_not_go_together_are_refused(client: AsyncOpenAI, asked: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.post("/chat/completions", body={"model": MODEL, "messages": HELLO} | asked, cast_to=object)


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": [1, 2, 3]},
        {"prompt": ["a", "b"]},
        {"prompt": "a", "echo": True},
        {"prompt": "a", "suffix": "b"},
        {"prompt": "a", "best_of": 2},
        {"prompt": "a", "model": "rag/docs"},
    ],
)
async def test_a_completion_that_nobody_would_write_so_is_refused(client: AsyncOpenAI, asked: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.post("/completions", body={"model": MODEL} | asked, cast_to=object)


@pytest.mark.parametrize(
    "ignored",
    [
        {"n": 1, "modalities": ["text"], "function_call": "none", "logit_bias": {}, "echo": False},
        {"stop": None, "tools": None, "response_format": None, "stream_options": None, "sluice": None, "seed": None},
        {"store": True, "service_tier": "auto", "verbosity": "low", "prediction": None, "never_heard_of": {"a": 1}},
    ],
)
async def test_members_that_ask_for_nothing_are_no_obstacle(
    client: AsyncOpenAI, stages: Stages, ignored: dict[str, Any]
) -> None:
    asked = {"model": MODEL, "messages": HELLO} | ignored
    answer: Any = await client.post("/chat/completions", body=asked, cast_to=object)
    assert answer["choices"][0]["message"]["content"] == "Hello world"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"model": "\xff"}', "application/json", 400),
        (b"model=x", "application/x-www-form-urlencoded", 400),
        (b"", "", 400),
        (b'{"model": "' + b"x" * 33 * 2**20 + b'"}', "application/json", 413),
    ],
)
async def test_a_body_that_cannot_be_read_is_an_error_in_openai_s_shape(
    http: httpx.AsyncClient, path: str, content: bytes, content_type: str, status: int
) -> None:
    response = await http.post(path, content=content, headers={"content-type": content_type})
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (status, "invalid_request_error")
    assert set(error) == {"message", "type", "param", "code", "sluice"}
    assert error["sluice"]["trace_id"] == response.headers["x-request-id"]


async def test_a_wrong_method_and_an_unknown_path_are_errors_in_openai_s_shape(http: httpx.AsyncClient) -> None:
    for response in (await http.get("/v1/chat/completions"), await http.post("/v1/chat/nothing", json={})):
        assert response.status_code in (404, 405)
        assert response.json()["error"]["type"] == "invalid_request_error"
    assert "error" not in (await http.get("/v1/nothing")).json()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("problem", "raised", "status", "code", "param"),
    [
        (ProblemType.CONTEXT_EXCEEDED, openai.BadRequestError, 400, "context_length_exceeded", "messages"),
        (ProblemType.INVALID_REQUEST, openai.BadRequestError, 400, "invalid-request", None),
        (ProblemType.QUEUE_FULL, openai.RateLimitError, 429, "queue-full", None),
        (ProblemType.ENGINE_FAILED, openai.InternalServerError, 502, "engine-failed", None),
        (ProblemType.STAGE_FAILED, openai.InternalServerError, 500, "stage-failed", None),
    ],
)
async def test_a_problem_before_the_answer_is_raised_with_its_code(
    client: AsyncOpenAI,
    stages: Stages,
    streamed: bool,
    problem: ProblemType,
    raised: type[openai.APIStatusError],
    status: int,
    code: str,
    param: str | None,
) -> None:
    stages.does["generate"] = failing(problem)
    with pytest.raises(raised) as caught:
        await client.chat.completions.create(model=MODEL, messages=HELLO, stream=streamed)  # type: ignore[call-overload]
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (status, code, param)
    body: Any = caught.value.body
    assert (body["message"], body["sluice"]["stage"]) == ("That is how it is.", "generate")


async def test_a_full_queue_is_tried_again_by_the_sdk_itself(gateway: ServiceProcess, stages: Stages) -> None:
    async def full_once(query: Query, context: Context) -> None:
        if len(stages.given["generate"]) == 1:
            raise Problem(ProblemType.QUEUE_FULL, "There are others.")
        await context.delta("Now.")
        await context.done(usage=Usage(), engine="tiny")

    stages.does["generate"] = full_once
    async with openai_client_async(gateway, retries=1) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == "Now."
    assert len(stages.given["generate"]) == 2


async def test_an_empty_collection_is_not_tried_again(gateway: ServiceProcess, stages: Stages) -> None:
    async def empty(_: Query, __: Context) -> Query:
        raise Problem(ProblemType.COLLECTION_EMPTY, "Nothing there.")

    stages.does["retrieve"] = empty
    async with openai_client_async(gateway, retries=2) as client:
        with pytest.raises(openai.ConflictError) as caught:
            await client.chat.completions.create(model="rag/docs", messages=HELLO)
    assert caught.value.code == "collection-empty"
    assert len(stages.given["retrieve"]) == 1


@pytest.mark.parametrize("model", [MODEL, "rag/docs"])
async def test_a_problem_in_the_middle_of_a_stream_is_raised_there(
    client: AsyncOpenAI, stages: Stages, model: str
) -> None:
    stages.does["generate"] = failing(ProblemType.ENGINE_FAILED, "Hello")
    stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
    chunks = stream.__aiter__()
    assert [(await anext(chunks)).choices[0].delta.content for _ in range(2)] == ["", "Hello"]
    with pytest.raises(openai.APIError) as caught:
        await anext(chunks)
    assert (caught.value.message, caught.value.code) == ("That is how it is.", "engine-failed")


async def test_a_collection_that_does_not_exist_is_an_unknown_model_or_a_problem_of_its_own(
    client: AsyncOpenAI, stages: Stages
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="rag/nothing", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(
            model=MODEL, messages=HELLO, extra_body={"sluice": {"collection": "nothing"}}
        )
    assert caught.value.code == "collection-not-found"


async def test_a_deadline_is_the_client_s_to_choose(client: AsyncOpenAI, broker: NatsServer) -> None:
    async with Stages(broker.url).running(("embed",)):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(
                model="rag/docs", messages=HELLO, extra_body={"sluice": {"timeout": 0.3}}
            )
    assert (caught.value.status_code, caught.value.code) == (503, "stage-unavailable")
    assert caught.value.response.headers["retry-after"] == "1"
