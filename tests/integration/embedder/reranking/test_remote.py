"""A remote reranker against a real server process's worth of HTTP, also one that misbehaves."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from services.embedder.reranking.budget import BudgetedReranker
from services.embedder.reranking.remote import RemoteApi, RemoteConfig, RemoteReranker
from shared.contracts.problems import Problem, ProblemType
from tests.harness.rerank_server import RerankServer

pytestmark = pytest.mark.anyio

TEXTS = ["a b", "c d", "a c"]


@pytest.fixture
async def server(anyio_backend: str) -> AsyncIterator[RerankServer]:
    async with RerankServer().run() as server:
        yield server


async def ask(server: RerankServer, path: str = "/v2/rerank", **options: object) -> list[float]:
    given = {"url": server.url + path, "api_key": SecretStr(server.key), **options}
    reranker = RemoteReranker(RemoteConfig(**given))  # type: ignore[arg-type]
    try:
        await reranker.start()
        return (await reranker.score("a b", TEXTS, urgent=True)).scores
    finally:
        await reranker.close()


@pytest.mark.parametrize(
    ("api", "path", "sent"),
    [
        (RemoteApi.COHERE, "/v2/rerank", {"model", "query", "documents", "top_n"}),
        (RemoteApi.JINA, "/v1/rerank", {"model", "query", "documents", "top_n", "return_documents"}),
        (RemoteApi.VLLM, "/v1/rerank", {"model", "query", "documents", "top_n"}),
        (RemoteApi.TEI, "/rerank", {"query", "texts", "raw_scores", "truncate"}),
    ],
)
async def test_each_api_gets_its_form(server: RerankServer, api: RemoteApi, path: str, sent: set[str]) -> None:
    assert await ask(server, path, api=api, model="m") == [1.0, 0.0, 0.5]
    assert server.requests[0].keys() - {"path"} == sent


async def test_what_fails_for_a_moment_is_sent_again(server: RerankServer) -> None:
    server.failures = [503, 429]
    assert await ask(server) == [1.0, 0.0, 0.5]
    assert len(server.requests) == 3


async def test_retries_come_to_an_end(server: RerankServer) -> None:
    server.failures = [503] * 9
    with pytest.raises(Problem, match="answered 503") as caught:
        await ask(server, max_retries=1)
    assert caught.value.extras == {"upstream_status": 503}
    assert len(server.requests) == 2


async def test_what_the_server_refuses_is_not_sent_again(server: RerankServer) -> None:
    server.failures = [400]
    with pytest.raises(Problem, match="answered 400"):
        await ask(server)
    assert len(server.requests) == 1


async def test_a_wrong_key_is_told_without_any_key(server: RerankServer) -> None:
    with pytest.raises(Problem, match="SLUICE_RERANK_API_KEY") as caught:
        await ask(server, api_key=SecretStr("sk-wrong"))
    assert "no such key: Bearer ***" in caught.value.detail
    assert caught.value.kind is ProblemType.RERANKER_FAILED


async def test_a_busy_server_is_told_as_such(server: RerankServer) -> None:
    server.failures = [429]
    with pytest.raises(Problem) as caught:
        await ask(server, max_retries=0)
    assert caught.value.extras == {"upstream_status": 429}


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("garbage", "SLUICE_RERANK_API"),
        ("missing", "did not score every"),
        ("twice", "did not score every"),
        ("logits", "SLUICE_RERANK_LOGITS"),
    ],
)
async def test_a_response_that_is_not_of_the_api_is_a_problem(server: RerankServer, mode: str, said: str) -> None:
    server.mode = mode
    with pytest.raises(Problem, match=said):
        await ask(server)


async def test_logits_become_scores(server: RerankServer) -> None:
    server.mode = "logits"
    best, worst, _ = await ask(server, logits=True)
    assert best > 0.99
    assert worst == 0.5


async def test_a_server_that_is_away_is_a_problem() -> None:
    with pytest.raises(Problem, match="connection to the rerank server failed"):
        await ask(RerankServer(url="http://127.0.0.1:9"), max_retries=0)


async def test_a_server_that_hangs_costs_no_more_than_the_budget(server: RerankServer) -> None:
    server.mode = "hang"
    reranker = RemoteReranker(RemoteConfig(url=f"{server.url}/v2/rerank", api_key=SecretStr(server.key)))
    try:
        await reranker.start()
        assert (await BudgetedReranker(reranker).score("a b", TEXTS, seconds=0.5)).scores == []
    finally:
        await reranker.close()
    assert server.asked.is_set()
