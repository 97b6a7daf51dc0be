"""The platform with a language model: real vLLM on the CPU, two replicas, asked with OpenAI's own SDK.

The model's weights are random, so its words mean nothing; what counts is that each answer is whole, and is the one that
an undisturbed platform gives.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.harness.platform import Platform, eventually
from tests.harness.processes import ServiceProcess
from tests.harness.tiny_model import WINDOW

pytestmark = pytest.mark.timeout(1_200)

PATIENCE = 400.0
"""Seconds until a generator is ready, beside other tests: the libraries alone take a minute."""

MODEL = "tiny"
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"enum": ["yes", "no"]}, "votes": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["verdict", "votes"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "vote", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("language-model")
    settings = {
        "engine": "vllm",
        "vllm_model": tiny_model,
        "vllm_served_name": MODEL,
        "vllm_kv_cache_gb": 0.25,
        "vllm_dtype": "float32",
        # With white space wherever JSON allows it, random weights may write nothing else.
        "vllm_args": json.dumps({"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}),
    }
    with Platform(folder, patience=PATIENCE, **settings) as running:
        nats_url = running.state.nats_url
        second = ServiceProcess(
            "services.generator", folder / "second", nats_url=nats_url, instance="second", **settings
        )
        second.start()
        try:
            second.wait_ready(PATIENCE)
            yield running
        finally:
            assert second.stop() == 0, second.log
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def sdk(platform: Platform) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False, timeout=120)
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key="none", http_client=http, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def lamps(platform: Platform) -> str:
    """A collection of many long documents."""
    texts = {
        f"lamp{number}.md": " ".join(f"Lamp {number} was lit {year} times in {1900 + year}." for year in range(30))
        for number in range(40)
    }
    with platform.client() as client:
        client.create_collection("lamps")
        job = client.wait(client.add_texts("lamps", texts).id)
    assert (job.state, job.progress.indexed) == ("succeeded", len(texts))
    return "lamps"


def chat(sdk: openai.OpenAI, words: str, *, tokens: int = 24, model: str = MODEL, **more: Any) -> Any:
    return sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": words}],
        max_tokens=tokens,
        temperature=0,
        extra_body={"ignore_eos": True},
        **more,
    )


def streamed(stream: Any, pieces: int | None = None) -> str:
    """The stream's text to its end, or this many pieces of it."""
    texts = (chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
    return "".join(islice(texts, pieces))


def busy(platform: Platform) -> list[str]:
    """Instances of the generator that work on an answer now."""
    with platform.client() as client:
        return [
            service.instance
            for service in client.status().services
            if service.service == "generator"
            and any(stage.stage == "generate" and stage.lane_in_flight.interactive for stage in service.stages)
        ]


def replicas(platform: Platform) -> int:
    with platform.client() as client:
        return sum(service.service == "generator" and service.ready for service in client.status().services)


def test_the_models_are_listed(sdk: openai.OpenAI, lamps: str) -> None:
    assert {MODEL, f"rag/{lamps}", "all-MiniLM-L6-v2"} <= {model.id for model in sdk.models.list()}


def test_a_chat_is_the_same_whole_and_streamed(sdk: openai.OpenAI) -> None:
    whole = chat(sdk, "Name three lamps.")
    stream = chat(sdk, "Name three lamps.", stream=True, stream_options={"include_usage": True})
    assert streamed(stream) == whole.choices[0].message.content != ""
    assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (24, "length")


def test_text_is_completed(sdk: openai.OpenAI) -> None:
    made = sdk.completions.create(model=MODEL, prompt="The licensor", max_tokens=8, extra_body={"ignore_eos": True})
    assert made.usage is not None
    assert made.usage.completion_tokens == 8


def test_an_answer_can_be_made_to_follow_a_json_schema(sdk: openai.OpenAI) -> None:
    response_format: Any = {"type": "json_schema", "json_schema": {"name": "v", "schema": SCHEMA, "strict": True}}
    made = sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Vote."}],
        response_format=response_format,
        max_tokens=100,
    )
    assert set(json.loads(made.choices[0].message.content or "")) == {"verdict", "votes"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "vote"}}])
def test_the_model_calls_a_tool(sdk: openai.OpenAI, choice: Any) -> None:
    made = sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Vote."}],
        tools=[TOOL],
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=200,
    )
    assert made.choices[0].finish_reason == "tool_calls"
    (call,) = made.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "vote"
    assert set(json.loads(call.function.arguments)) == {"verdict", "votes"}


def test_texts_are_embedded(sdk: openai.OpenAI) -> None:
    made = sdk.embeddings.create(model="all-MiniLM-L6-v2", input=["A lamp.", "A ferry."])
    assert [len(item.embedding) for item in made.data] == [384, 384]


def test_passages_of_more_than_the_window_still_give_an_answer_that_says_what_was_dropped(
    platform: Platform, lamps: str
) -> None:
    asked = {
        "question": "How often was lamp 7 lit?",
        "collection": lamps,
        "top_k": 40,
        "generate": {"max_tokens": 32, "ignore_eos": True},
    }
    answer = httpx.post(f"{platform.url}/v1/query", json=asked, trust_env=False, timeout=120).json()
    text = sum(len(source["text"]) for source in answer["sources"])
    assert text > 4 * 3 * WINDOW, "about three characters are a token"
    assert answer["context"]["window"] == WINDOW
    assert answer["usage"]["prompt_tokens"] + 32 <= WINDOW
    dropped = answer["context"]["dropped"]
    assert dropped == list(range(41 - len(dropped), 41)), "the last by rank"
    assert 0 < len(dropped) < 40
    assert answer["answer"]


def test_both_replicas_answer_at_once(sdk: openai.OpenAI, platform: Platform) -> None:
    workers = set()
    with ThreadPoolExecutor(40) as pool:
        for made in pool.map(lambda n: chat(sdk, f"Tell of lamp {n}.", tokens=64), range(80)):
            assert made.usage.completion_tokens == 64
            workers |= {stage["worker"] for stage in made.sluice["timings"]["stages"]}
    assert len(workers) == 2


def test_a_client_that_leaves_frees_its_place_in_the_engine(sdk: openai.OpenAI, platform: Platform) -> None:
    stream = chat(sdk, "Tell of a lamp.", tokens=700, stream=True)
    next(iter(stream))
    stream.close()
    eventually(lambda: not busy(platform), "no generator busy")
    eventually(lambda: platform.metric("generator", "vllm:num_requests_running") == 0, "no request running")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
def test_answers_survive_their_generator(
    sdk: openai.OpenAI, platform: Platform, lamps: str, number: signal.Signals
) -> None:
    """The supervisor's generator is stopped while it writes; the other one goes on where it was killed."""
    eventually(lambda: replicas(platform) == 2, "two generators ready", patience=PATIENCE)

    def ask(model: str, **more: Any) -> Any:
        body = {"ignore_eos": True} | ({"sluice": {"top_k": 1}} if model != MODEL else {})
        words: Any = [{"role": "user", "content": f"Tell of lamp {number} and all its years."}]
        return sdk.chat.completions.create(
            model=model, messages=words, max_tokens=500, temperature=0, extra_body=body, **more
        )

    models = [MODEL, f"rag/{lamps}"]
    undisturbed = {model: ask(model).choices[0].message.content for model in models}
    pid = platform.state.services["generator"].pid
    assert pid is not None
    # Each stream has brought text when the next one starts, so the one to be stopped is in the middle of one of them.
    streams: list[tuple[str, Any, str]] = []
    while not platform.metric("generator", "sluice_stage_in_flight", stage="generate", lane="interactive"):
        assert len(streams) < 20, "none of the streams is written by the generator to be stopped"
        model = models[len(streams) % 2]
        stream = ask(model, stream=True)
        streams.append((model, stream, streamed(stream, pieces=20)))
    with ThreadPoolExecutor(4) as pool:
        whole = [(model, pool.submit(ask, model)) for model in models * 2]
        os.kill(pid, number)
        for model, stream, beginning in streams:
            assert beginning + streamed(stream) == undisturbed[model]
        for model, made in whole:
            assert made.result().choices[0].message.content == undisturbed[model]
    if number is signal.SIGKILL:
        assert platform.metric("gateway", "sluice_gateway_answers_handed_over_total") > 0
