"""Triton's generate extension: what its clients send and get, of Sluice's own models and those of a repository."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.contracts.envelope import Query
from shared.contracts.events import Usage
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.gateways import MODEL
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages, answer_with

pytestmark = pytest.mark.usefixtures("predictor")

STREAM = "/v2/models/generate/generate_stream"


@pytest.fixture
async def stages(broker: NatsServer) -> AsyncIterator[Stages]:
    stages = Stages(broker.url)
    stages.models = {"generate": MODEL}
    async with stages.running(("generate",)):
        yield stages


@pytest.fixture
async def http(gateway: ServiceProcess, stages: Stages) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client:
        for _ in range(100):  # a gateway knows for a moment that nobody had the model
            if (await client.get("/v2/models/generate")).status_code == 200:
                break
            await asyncio.sleep(0.1)
        yield client


async def events(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) async for line in response.aiter_lines() if line.startswith("data")]


async def test_generate_answers_with_one_object(http: httpx.AsyncClient, stages: Stages) -> None:
    body = {"text_input": "Say hello.", "id": "7", "temperature": 0, "parameters": {"max_tokens": 5, "stream": False}}
    response = await http.post("/v2/models/generate/versions/default/generate", json=body)
    assert response.json() == {
        "model_name": "generate",
        "model_version": "default",
        "id": "7",
        "text_output": "Hello world",
    }
    (query,) = stages.given["generate"]
    assert (query.question, query.stop.params["max_tokens"], query.stop.params["temperature"]) == ("Say hello.", 5, 0)


async def test_generate_stream_sends_each_piece_as_an_event(http: httpx.AsyncClient, stages: Stages) -> None:
    sent = asyncio.Event()

    async def generate(query: Query, context: Context) -> None:
        await context.delta("Hello ")
        await sent.wait()
        await context.delta("world")
        await context.done(usage=Usage(), engine="quoting")

    stages.does["generate"] = generate
    async with http.stream("POST", STREAM, json={"text_input": "Say hello."}) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        told = []
        async for line in response.aiter_lines():
            if line:
                told.append(json.loads(line.removeprefix("data: ")))
                sent.set()
    assert [each["text_output"] for each in told] == ["Hello ", "world"]
    assert told[0] == {"model_name": "generate", "model_version": "default", "text_output": "Hello "}


async def test_what_is_wrong_before_the_first_event_has_a_status(http: httpx.AsyncClient, stages: Stages) -> None:
    for body, said in (
        ({"max_tokens": 5}, "has none of the model's inputs, which are: text_input"),
        ({"text_input": ["a", "b"]}, "text_input: has 2 elements, and the model takes [1]"),
        ({"text_input": 5}, "text_input: has an element that is not of BYTES"),
        ({"text_input": "a", "max_tokens": -1}, "max_tokens"),
        ({"text_input": "a", "n": 1, "parameters": {"n": 1}}, "n: is among the `parameters` too"),
        ({"text_input": "a", "parameters": {"timeout": "soon"}}, "is not a number of microseconds"),
        ({"text_input": "a", "sequence_id": 5}, "is of an extension that is not served here"),
        ([], "body"),
    ):
        for path in ("/v2/models/generate/generate", STREAM):
            response = await http.post(path, json=body)
            assert (response.status_code, said in response.json()["error"]) == (400, True), response.text
    assert (await http.post("/v2/models/nobody!/generate", json={})).status_code == 404

    async def refuse(query: Query, context: Context) -> None:
        raise Problem(ProblemType.MODEL_UNAVAILABLE, "There is no room for the model.")

    stages.does["generate"] = refuse
    response = await http.post(STREAM, json={"text_input": "a"})
    assert (response.status_code, response.json()["error"]) == (503, "There is no room for the model.")


async def test_an_error_in_mid_stream_is_the_last_event(http: httpx.AsyncClient, stages: Stages) -> None:
    async def break_off(query: Query, context: Context) -> None:
        await context.delta("Hello there, ")
        raise Problem(ProblemType.ENGINE_FAILED, "The engine has died.")

    stages.does["generate"] = break_off

    async def tokens() -> int:
        report = (await http.get("/v1/usage?by=model")).raise_for_status().json()
        return int(report["total"]["completion_tokens"])

    before = await tokens()
    async with http.stream("POST", STREAM, json={"text_input": "a"}) as response:
        told = await events(response)
    assert response.status_code == 200
    assert told[0]["text_output"] == "Hello there, "
    assert (told[1]["error"], told[1]["sluice"]["type"]) == ("The engine has died.", "urn:sluice:problem:engine-failed")
    assert len(told) == 2
    assert await tokens() > before


async def test_a_client_that_leaves_cancels_its_query(http: httpx.AsyncClient, stages: Stages) -> None:
    cancelled = asyncio.Event()

    async def generate(query: Query, context: Context) -> None:
        await context.delta("Hello ")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    stages.does["generate"] = generate
    async with http.stream("POST", STREAM, json={"text_input": "a"}) as response:
        await anext(response.aiter_lines())
    async with asyncio.timeout(30):
        await cancelled.wait()


async def test_any_media_type_and_compression_are_read(http: httpx.AsyncClient, stages: Stages) -> None:
    stages.does["generate"] = answer_with("yes")
    body = b'{"text_input": "a"}'
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await http.post("/v2/models/generate/generate", content=body, headers=headers)
    assert response.json()["text_output"] == "yes"
    headers = {"Content-Encoding": "deflate"}
    response = await http.post("/v2/models/generate/generate", content=zlib.compress(body), headers=headers)
    assert response.json()["text_output"] == "yes"


def test_tensors_of_a_model_are_members_by_their_names(client: httpx.Client) -> None:
    given = {
        "BOOL": [True, False],
        "INT64": [-(2**63), 1],
        "FP32": [[1.5, -2]],
        "BYTES": ["", "grün"],
    }
    others = {name: [0, 0] for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "FP64")}
    answered = client.post("/v2/models/typed/generate", json={**given, **others, "id": "9"}).raise_for_status().json()
    assert (answered["model_name"], answered["model_version"], answered["id"]) == ("typed", "1", "9")
    assert answered["BYTES_out"] == ["", "grün"]
    assert answered["BOOL_out"] == [True, False]
    assert answered["FP32_out"] == [1.5, -2]
    assert answered["INT64_out"] == [-(2**63), 1]


def test_elements_take_the_shape_of_the_model(client: httpx.Client) -> None:
    for x, expected in (([1, 2, 3], [3, 6, 9]), ([[1, 1, 1], [2, 2, 2]], [3, 3, 3, 6, 6, 6])):
        assert client.post("/v2/models/doubler/generate", json={"x": x}).raise_for_status().json()["y"] == expected
    first = client.post("/v2/models/doubler/versions/1/generate", json={"x": [1, 2, 3, 4, 5, 6]}).raise_for_status()
    assert first.json()["y"] == [2, 4, 6, 8, 10, 12]
    wrong = client.post("/v2/models/doubler/generate", json={"x": [1, 2]})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "x: has 2 elements, and the model takes [-1, 3].")


def test_a_python_class_gets_a_list(client: httpx.Client) -> None:
    for x in ([1, 2, 3], 4):
        asked = {"x": x, "open": "/"}  # the file that it waits for
        answered = client.post("/v2/models/gate/generate", json=asked).raise_for_status().json()
        assert answered["output"] == x


def test_a_model_that_does_not_stream_sends_one_event(client: httpx.Client) -> None:
    response = client.post("/v2/models/doubler/generate_stream", json={"x": [1, 2, 3], "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    (line,) = filter(None, response.text.splitlines())
    assert json.loads(line.removeprefix("data: "))["y"] == [3, 6, 9]
    missing = client.post("/v2/models/nobody/generate_stream", json={"x": [1]})
    assert (missing.status_code, "no model 'nobody'" in missing.json()["error"]) == (404, True)
