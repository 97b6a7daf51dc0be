"""Embeddings through the real SDK of OpenAI, by the real model."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from services.embedder.model.hardware import Dtype
from services.embedder.model.model import BUNDLED_MODEL, EmbeddingModel, Kind, ModelConfig
from shared.contracts.envelope import Query
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.gateways import openai_client_async
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

TEXTS = ["A cat sleeps.", "Interest rates rise.", "The kitten is napping."]


@pytest.fixture(scope="module")
def embedder(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """In float32, whose vectors are the same in every batch."""
    folder = tmp_path_factory.mktemp("embedder")
    with ServiceProcess("services.embedder", folder, nats_url=broker.url, dtype="float32") as embedder:
        yield embedder


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return EmbeddingModel.load(ModelConfig(dtype=Dtype.FLOAT32))


@pytest.fixture
async def client(gateway: ServiceProcess) -> AsyncIterator[AsyncOpenAI]:
    async with openai_client_async(gateway) as client:
        yield client


@pytest.fixture
def stages(broker: NatsServer) -> Stages:
    """An embedder of another variant and model than the real one's, which a test starts."""
    stages = Stages(broker.url)
    stages.models["embed"] = "other-model"
    return stages


async def embed(client: AsyncOpenAI, texts: str | list[str], **options: Any) -> list[list[float]]:
    response = await client.embeddings.create(model=BUNDLED_MODEL, input=texts, **options)
    assert [one.index for one in response.data] == list(range(len(response.data)))
    return [one.embedding for one in response.data]


async def test_vectors_are_those_of_the_model_in_the_order_of_the_texts(
    client: AsyncOpenAI, embedder: ServiceProcess, model: EmbeddingModel
) -> None:
    expected = model.embed(TEXTS)
    np.testing.assert_allclose(await embed(client, TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(await embed(client, TEXTS[0]), expected[:1], atol=1e-5)


async def test_base64_and_numbers_say_the_same(client: AsyncOpenAI, embedder: ServiceProcess) -> None:
    as_numbers = await embed(client, TEXTS, encoding_format="float")
    assert await embed(client, TEXTS) == as_numbers
    raw = await client.embeddings.create(model=BUNDLED_MODEL, input=TEXTS, encoding_format="base64")
    assert isinstance(raw.data[0].embedding, str)


async def test_fewer_dimensions_are_the_first_ones_at_length_1(client: AsyncOpenAI, embedder: ServiceProcess) -> None:
    whole = np.array(await embed(client, TEXTS))
    short = np.array(await embed(client, TEXTS, dimensions=64))
    assert short.shape == (3, 64)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(short, whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(openai.BadRequestError) as caught:
        await embed(client, TEXTS, dimensions=385)
    assert caught.value.param == "dimensions"


async def test_the_usage_counts_the_tokens_of_the_model_itself(
    client: AsyncOpenAI, embedder: ServiceProcess, model: EmbeddingModel
) -> None:
    response = await client.embeddings.create(model=BUNDLED_MODEL, input=TEXTS)
    assert response.usage.prompt_tokens == response.usage.total_tokens == sum(map(model.token_count, TEXTS))


async def test_many_texts_keep_their_order_over_many_queries(client: AsyncOpenAI, embedder: ServiceProcess) -> None:
    texts = [f"text number {n}" for n in range(100)]
    many = await embed(client, texts)
    for n in (0, 31, 32, 99):
        np.testing.assert_allclose(many[n], (await embed(client, texts[n]))[0], atol=1e-5)


async def test_questions_and_documents_may_be_embedded_differently(client: AsyncOpenAI, stages: Stages) -> None:
    kinds = []

    async def note(query: Query, _: Context) -> Query:
        kinds.append(query.stop.params["kind"])
        return query.with_passages(p.model_copy(update={"vector": b"\0\0\x80\x3f"}) for p in query.passages)

    stages.does["embed"] = note
    async with stages.running(("embed",), variant="other"):
        for kind in ("query", "document"):
            await client.embeddings.create(model="other-model", input="x", extra_body={"sluice": {"input_type": kind}})
        await client.embeddings.create(model="other-model", input="x")
    assert kinds == [Kind.QUERY, Kind.PASSAGE, Kind.PASSAGE]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": ["x", "y" * 200_000]}, "input[1]"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "sluice": {"input_type": "poem"}}, "sluice.input_type"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    client: AsyncOpenAI, embedder: ServiceProcess, asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/embeddings", body={"model": BUNDLED_MODEL} | asked, cast_to=object)
    assert caught.value.param == param


async def test_a_model_that_does_not_embed_is_not_found(client: AsyncOpenAI, embedder: ServiceProcess) -> None:
    with pytest.raises(openai.NotFoundError, match=BUNDLED_MODEL):
        await client.embeddings.create(model="text-embedding-3-small", input="x")


async def test_one_part_that_fails_fails_the_request_and_stops_the_others(client: AsyncOpenAI, stages: Stages) -> None:
    stopped = asyncio.Event()

    async def fail_once(query: Query, _: Context) -> Query:
        if query.passages[0].id == "0":
            await stages.arrived("embed", 4)
            raise Problem(ProblemType.STAGE_FAILED, "It overflowed.")
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return query

    stages.does["embed"] = fail_once
    async with stages.running(("embed",), variant="other"):
        with pytest.raises(openai.InternalServerError, match="It overflowed"):
            await client.embeddings.create(model="other-model", input=["x"] * 200)
        async with asyncio.timeout(10):
            await stopped.wait()
    assert len(stages.given["embed"]) == 4


async def test_a_client_that_leaves_stops_all_parts(client: AsyncOpenAI, stages: Stages) -> None:
    stopped = asyncio.Semaphore(0)

    async def endless(query: Query, _: Context) -> Query:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.release()
        return query

    stages.does["embed"] = endless
    async with stages.running(("embed",), variant="other"):
        pending = asyncio.create_task(client.embeddings.create(model="other-model", input=["x"] * 200))
        await stages.arrived("embed", 4)
        pending.cancel()
        async with asyncio.timeout(10):
            for _ in range(4):
                await stopped.acquire()
    assert len(stages.given["embed"]) == 4
