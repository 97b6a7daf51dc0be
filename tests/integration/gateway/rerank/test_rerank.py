"""/v1/rerank, /v2/rerank and queries that rerank, by a real embedder."""

from collections.abc import Iterator

import httpx
import pytest

from shared.contracts.envelope import Passage, Query
from shared.runtime.stage import Context
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stages import Stages

pytestmark = pytest.mark.anyio

MODEL = "late-interaction/all-MiniLM-L6-v2"
QUESTION = "What sings in the mine?"
TEXTS = ["Interest rates rose.", "The canary sings in the mine.", "A kitten naps by the window."]
BODY = {"query": QUESTION, "documents": TEXTS}


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}]


@pytest.fixture(scope="module")
def embedder(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("embedder")
    with ServiceProcess("services.embedder", folder, nats_url=broker.url, dtype="float32") as embedder:
        yield embedder


@pytest.fixture
def client(gateway: ServiceProcess, embedder: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
        yield client


def test_v1_orders_the_documents(client: httpx.Client) -> None:
    response = client.post("/v1/rerank", json=BODY | {"model": MODEL, "top_n": 2, "return_documents": True})
    body = response.raise_for_status().json()
    first, second = body["results"]
    assert (first["index"], first["document"]) == (1, {"text": TEXTS[1]})
    assert 1 >= first["relevance_score"] > second["relevance_score"] >= 0
    assert body["usage"]["total_tokens"] > 0
    assert body["meta"]["api_version"] == {"version": "1"}
    assert body["model"] == MODEL


def test_v1_takes_objects_and_names_the_model_that_the_route_chose(client: httpx.Client) -> None:
    documents = [{"text": text} for text in TEXTS]
    body = client.post("/v1/rerank", json={"query": QUESTION, "documents": documents}).json()
    assert [body["model"], body["results"][0]["index"]] == [MODEL, 1]
    assert "document" not in body["results"][0]


def test_v1_compares_the_members_that_are_named(client: httpx.Client) -> None:
    documents = [{"title": "Banking", "body": TEXTS[0]}, {"title": "Birds", "body": TEXTS[1]}]
    asked = {"query": QUESTION, "documents": documents, "rank_fields": ["title", "body"], "return_documents": True}
    best = client.post("/v1/rerank", json=asked).json()["results"][0]
    assert best["document"] == {"text": f"title: Birds\nbody: {TEXTS[1]}"}


def test_a_request_in_the_form_of_tei_is_answered_in_it(client: httpx.Client) -> None:
    body = client.post("/v1/rerank", json={"query": QUESTION, "texts": TEXTS, "return_text": True}).json()
    assert [sorted(one) for one in body] == [["index", "score", "text"]] * 3
    assert body[0]["text"] == TEXTS[1]


def test_v2_answers_as_cohere_s_clients_expect(client: httpx.Client) -> None:
    sent = BODY | {"model": MODEL, "top_n": 1, "max_tokens_per_doc": 4096}
    body = client.post("/v2/rerank", json=sent).raise_for_status().json()
    assert sorted(body) == ["id", "meta", "results"]
    assert [sorted(one) for one in body["results"]] == [["index", "relevance_score"]]
    assert body["meta"]["billed_units"] == {"search_units": 1}


def test_more_documents_than_fit_into_a_query_are_ordered_together(client: httpx.Client) -> None:
    texts = [f"Number {number} has nothing to do with it." for number in range(300)]
    texts[177] = TEXTS[1]
    results = client.post("/v1/rerank", json={"query": QUESTION, "documents": texts}).json()["results"]
    assert results[0]["index"] == 177
    assert sorted(one["index"] for one in results) == list(range(300))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (BODY | {"documents": []}, 422, "invalid-request"),
        (BODY | {"documents": ["a"] * 1001}, 422, "invalid-request"),
        (BODY | {"documents": [{"title": "a"}]}, 422, "invalid-request"),
        (BODY | {"documents": ["x" * 200_000]}, 422, "invalid-request"),
        (BODY | {"texts": TEXTS}, 422, "invalid-request"),
        (BODY | {"top_n": 0}, 422, "invalid-request"),
        (BODY | {"query": " "}, 422, "invalid-question"),
        (BODY | {"model": "nobody/none"}, 404, "model-not-found"),
        ({"query": QUESTION}, 422, "invalid-request"),
    ],
)
def test_what_cannot_be_ranked_is_a_problem(
    client: httpx.Client, body: dict[str, object], status: int, code: str
) -> None:
    response = client.post("/v1/rerank", json=body)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:sluice:problem:{code}")


def test_the_models_name_the_reranker(client: httpx.Client) -> None:
    (model,) = [m for m in client.get("/v1/models").json()["data"] if m["sluice"]["stage"] == "rerank"]
    assert model["id"] == MODEL


async def find_texts(query: Query, _: Context) -> Query:
    """A search that finds the worst first."""
    return query.with_passages(
        Passage(id=str(n), document_id=str(n), document=f"{n}.txt", position=0, text=text, score=0.9 - n / 10)
        for n, text in enumerate(TEXTS)
    )


@pytest.mark.parametrize("options", [{"rerank": True}, {"pipeline": "rerank"}])
async def test_a_query_that_reranks_answers_from_the_best(
    broker: NatsServer, client: httpx.Client, options: dict[str, object]
) -> None:
    stages = Stages(broker.url)
    stages.does["retrieve"] = find_texts
    http = httpx.AsyncClient(base_url=client.base_url, timeout=60, trust_env=False)
    async with stages.running(("retrieve", "generate")), http:
        response = await http.post("/v1/query", json={"question": QUESTION, "top_k": 2, **options})
    body = response.raise_for_status().json()
    assert next(source["document"] for source in body["sources"]) == "1.txt"
    assert len(body["sources"]) == 2
    assert body["sources"][0]["retrieval_score"] == pytest.approx(0.8)
    assert body["sources"][0]["score"] > body["sources"][1]["score"]
    assert [hop["stage"] for hop in body["timings"]["stages"]] == ["embed", "retrieve", "rerank", "generate"]
    assert stages.given["retrieve"][-1].stop.params["top_k"] == 40
