"""The text around a passage, from the index to the client: a real store and the extractive engine behind a gateway."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from services.generator.engines.extractive.engine import ExtractiveConfig, ExtractiveEngine
from services.generator.stages.generate import Generate
from services.retriever.stages.retrieve import Retrieve
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.envelope import Query
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

TEXTS = (
    "Tower\n\nThe tower stands in a park. Painters come every seven years.",
    "Tower\n\nPainters come every seven years. Visitors go up on foot.",
    "Tower\n\nVisitors go up on foot. The tower has 1665 steps in all.",
    "Prices\n\nThe tower has steps that cost nothing.",
)


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}]


@pytest.fixture
async def stages(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Stages]:
    """The second of the texts is the nearest to every question."""
    store = await LanceStore.open(str(tmp_path))
    nearness = ((0.1, 1.0), (1.0, 0.0), (0.1, -1.0), (-1.0, 0.1))
    chunks = [
        Chunk(position=n, text=text, vector=np.array(nearness[n], np.float32), section=0 if n < 3 else 1)
        for n, text in enumerate(TEXTS)
    ]
    document = IndexedDocument(id="a", name="tower.md", version="v", revision=1, chunks=chunks)
    retrieve = Retrieve(store)

    async def from_store(query: Query, context: Context) -> Query:
        await store.replace(query.collection, [document])
        return await retrieve(query, context)

    stages = Stages(broker.url)
    stages.does |= {"retrieve": from_store, "generate": Generate(ExtractiveEngine(ExtractiveConfig()), declines=False)}
    async with stages.running():
        yield stages
    await store.close()


async def ask(gateway: ServiceProcess, **retrieval: Any) -> dict[str, Any]:
    body = {"question": "How many steps has the tower?", "top_k": 1, "retrieval": {"mode": "vector"} | retrieval}
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        response = await client.post("/v1/query", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.usefixtures("stages")
async def test_an_answer_is_made_from_the_text_around_a_passage_and_says_so(gateway: ServiceProcess) -> None:
    alone = await ask(gateway)
    assert "1665" not in alone["answer"]
    assert alone["sources"][0]["context"] == []
    assert alone["context"]["joined"] == []

    answer = await ask(gateway, context=1)
    assert "The tower has 1665 steps in all. [1]" in answer["answer"]
    (source,) = answer["sources"]
    assert (source["position"], source["text"]) == (1, TEXTS[1])
    assert source["context"] == [{"position": 0, "text": TEXTS[0]}, {"position": 2, "text": TEXTS[2]}]
    assert answer["context"]["joined"] == [1]
    assert answer["cited"] == [1]


@pytest.mark.usefixtures("stages")
async def test_more_context_than_there_can_be_is_refused(gateway: ServiceProcess) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        response = await client.post("/v1/query", json={"question": "Why?", "retrieval": {"context": 9}})
    assert response.status_code == 422 or response.json()["type"].endswith("invalid-request")
