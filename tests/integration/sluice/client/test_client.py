"""The Python client, blocking and asynchronous, against a gateway without services."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import sluice
from sluice.client import Upload
from tests.harness.fake_gateway import FakeGateway


@pytest.fixture
def client(fake_gateway: FakeGateway) -> Iterator[sluice.Client]:
    with sluice.Client(fake_gateway.url) as client:
        yield client


def test_both_clients_offer_the_same_with_the_same_arguments_and_documentation() -> None:
    def surface(kind: type) -> dict[str, tuple[list[str], str | None]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: (list(inspect.signature(method).parameters), method.__doc__)
            for name, method in methods
            if not name.startswith("_")
        }

    blocking, awaited = surface(sluice.Client), surface(sluice.AsyncClient)
    assert {name: arguments for name, (arguments, _) in blocking.items()} == {
        name: arguments for name, (arguments, _) in awaited.items()
    }
    assert all(documentation for _, documentation in [*blocking.values(), *awaited.values()])
    assert blocking["query"][0][:3] == ["self", "question", "collection"]


def test_a_query_returns_a_typed_answer(client: sluice.Client, fake_gateway: FakeGateway) -> None:
    answer = client.query("How long?", collection="shop", top_k=3, filter={"year": 2024}, timeout=7)
    assert answer.answer == "24 months [1]."
    assert answer.sources[0].document == "docs/warranty.md"
    assert answer.timings.stages[0].worked_ms == 8.0
    assert fake_gateway.queries[0] == {
        "question": "How long?",
        "collection": "shop",
        "top_k": 3,
        "filter": {"year": 2024},
        "pipeline": None,
        "timeout": 7,
    }


def test_a_follow_up_brings_its_conversation(client: sluice.Client, fake_gateway: FakeGateway) -> None:
    fake_gateway.end = {"cited": [1], "model": "m", "finish": "length", "context": {"dropped": [2]}}
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}]
    answer = client.query("And when?", messages=turns, conversation="c1", generate={"max_tokens": 9})
    asked = fake_gateway.queries[0]
    assert (asked["messages"], asked["conversation"], asked["generate"]) == (turns, "c1", {"max_tokens": 9})
    assert (answer.cited, answer.model, answer.finish, answer.context.dropped) == ((1,), "m", "length", (2,))


def test_a_stream_yields_sources_then_deltas_then_the_end(client: sluice.Client) -> None:
    events = list(client.stream("How long?"))
    assert [type(event) for event in events] == [sluice.Sources, sluice.Delta, sluice.Delta, sluice.Done]


@pytest.mark.anyio
async def test_the_asynchronous_client_streams_uploads_and_waits(fake_gateway: FakeGateway, tmp_path: Path) -> None:
    fake_gateway.collections["team"] = {}
    fake_gateway.dropped_watches = 1
    (tmp_path / "a.md").write_text("text")
    async with sluice.AsyncClient(fake_gateway.url) as client:
        text = [event.text async for event in client.stream("How long?") if isinstance(event, sluice.Delta)]
        job = await client.upload("team", [tmp_path / "a.md", Upload(name="x/b.md", content=b"b")])
        ended = await client.wait(job.id, timeout=30)
        documents = [document.name async for document in client.documents("team")]
    assert "".join(text) == "24 months [1]."
    assert (ended.state, ended.progress.indexed) == (sluice.JobState.SUCCEEDED, 2)
    assert documents == ["a.md", "x/b.md"]


def test_a_problem_is_an_error_with_code_status_and_detail(client: sluice.Client) -> None:
    with pytest.raises(sluice.SluiceError) as caught:
        client.query("How long?", collection="missing")
    assert (caught.value.code, caught.value.status) == ("collection-not-found", 404)
    with pytest.raises(sluice.SluiceError, match="no collection 'missing'"):
        list(client.stream("How long?", collection="missing"))


def test_a_refusal_is_repeated_when_the_server_says_when(client: sluice.Client, fake_gateway: FakeGateway) -> None:
    fake_gateway.refusals = [(429, {"Retry-After": "0"}), (429, {"Retry-After": "0"})]
    assert client.query("How long?").engine == "extractive"
    assert fake_gateway.requests == ["POST /v1/query"] * 3


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}], ids=["no time", "too long a time"])
def test_a_refusal_without_a_bearable_time_is_passed_on(
    client: sluice.Client, fake_gateway: FakeGateway, headers: dict[str, str]
) -> None:
    fake_gateway.refusals = [(429, headers)]
    with pytest.raises(sluice.SluiceError) as caught:
        client.query("How long?")
    assert caught.value.code == "queue-full"
    assert caught.value.retry_after == (3600.0 if headers else None)


def test_repeating_is_bounded(client: sluice.Client, fake_gateway: FakeGateway) -> None:
    fake_gateway.refusals = [(429, {"Retry-After": "0"})] * 10
    with pytest.raises(sluice.SluiceError):
        client.query("How long?")
    assert len(fake_gateway.requests) == 4


def test_reads_are_repeated_after_a_broken_connection_and_queries_are_not() -> None:
    seen = []

    def break_once(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        if len(seen) == 1:
            raise httpx.ReadError("connection reset", request=request)
        return httpx.Response(200, json={"collections": []})

    with sluice.Client("http://sluice.test", transport=httpx.MockTransport(break_once)) as client:
        assert client.collections() == []
        seen.clear()
        with pytest.raises(sluice.UnreachableError, match="connection reset"):
            client.query("How long?")
    assert seen == ["POST"]


def test_a_key_travels_with_every_request(fake_gateway: FakeGateway) -> None:
    with sluice.Client(fake_gateway.url, api_key="secret") as client:
        client.status()
        list(client.stream("How long?"))
    assert fake_gateway.keys == ["Bearer secret"] * 2


def test_something_that_is_not_sluice_is_said_to_be_so() -> None:
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>It works!</html>"))
    with sluice.Client("http://sluice.test", transport=page) as client:
        with pytest.raises(sluice.SluiceError, match="not like Sluice"):
            client.status()
        with pytest.raises(sluice.SluiceError, match="not with a stream of events"):
            list(client.stream("How long?"))


def test_waiting_for_a_job_gives_up_in_time(fake_gateway: FakeGateway) -> None:
    forever = {"id": "j", "state": "running"}
    stuck = httpx.MockTransport(lambda _: httpx.Response(200, json=forever))
    with sluice.Client("http://sluice.test", transport=stuck) as client, pytest.raises(TimeoutError):
        client.wait("j", timeout=-1)


async def test_a_notebook_shows_a_job_that_is_waited_for(
    fake_gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    class Display:
        def __call__(self, job: sluice.Job) -> None:
            shown.append(job.state)

    monkeypatch.setattr("sluice.client.progress.in_notebook", lambda: True)
    monkeypatch.setattr("sluice.notebook.LiveJob", Display)
    fake_gateway.collections["team"] = {}
    async with sluice.AsyncClient(fake_gateway.url) as client:
        job = await client.add_texts("team", {"a.md": "text"})
        await client.wait(job.id)
        assert shown[-1] == "succeeded"
        shown.clear()
        await client.wait(job.id, progress=False)
        assert [change.state async for change in client.watch(job.id, progress=False)][-1] == "succeeded"
        assert shown == []


def test_the_blocking_client_shows_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[sluice.Job] = []
    monkeypatch.setattr("sluice.client.progress.in_notebook", lambda: True)
    monkeypatch.setattr("sluice.notebook.LiveJob", lambda: shown.append)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"id": "j", "state": "failed"}))
    with sluice.Client("http://sluice.test", transport=transport) as stub:
        stub.wait("j")
        assert [job.state for job in shown] == ["failed"]
        stub.wait("j", progress=False)
    assert len(shown) == 1


def test_the_report_of_an_evaluation_is_typed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json={"collection": "docs", "metrics": {"mrr": 0.5}, "intervals": {}, "new": 1})

    with sluice.Client("http://sluice.test", transport=httpx.MockTransport(answer)) as client:
        report = client.evaluation("j1")
    assert asked == ["/v1/artifacts/j1/report.json"]
    assert (report.collection, report.metrics, report.comparison) == ("docs", {"mrr": 0.5}, None)
