"""What the gateway makes of what services remember, and who may see it."""

from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.gateway.admin.traces import collect_trace, latest_traces
from shared.contracts.problems import Problem, ProblemType
from shared.telemetry.trace_events import TRACE, EventReport, SpanReport, TraceReport, TraceRequest, TraceSummary
from tests.harness.broker import NatsServer

pytestmark = pytest.mark.anyio

MINE, BATCH = "a" * 32, "b" * 32


def span(number: int, tenant: str | None, *, trace: str = MINE, parent: int | None = None) -> SpanReport:
    return SpanReport(
        trace_id=trace,
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        name=f"span {number}",
        kind="internal",
        started_at=100.0 + number,
        ended_at=100.5 + number,
        error=None,
        attributes={} if tenant is None else {"sluice.tenant": tenant},
    )


REMEMBERED = {
    "one": [span(1, "ann"), span(4, "bob", parent=1), span(5, None, parent=4)],
    "two": [span(2, "ann", parent=1), span(3, None, trace=BATCH, parent=2)],
}


@pytest.fixture
async def client(broker: NatsServer) -> AsyncIterator[Client]:
    """Two services: only the first knows which trace the query `q` has."""
    client = await nats.connect(broker.url)

    def start_gateway(service: str) -> None:
        async def answer(message: Msg) -> None:
            asked = TraceRequest.model_validate_json(message.data).id
            knows = asked == MINE or (asked == "q" and service == "one")
            traces, spans = ((MINE,), REMEMBERED[service]) if knows else ((), [])
            told = TraceReport(service=service, instance=f"{service}-1", traces=traces, spans=tuple(spans))
            await message.respond(told.model_dump_json().encode())

        answers[service] = answer

    answers: dict[str, object] = {}
    for service in REMEMBERED:
        start_gateway(service)
        await client.subscribe(TRACE, cb=answers[service])  # type: ignore[arg-type]
    yield client
    await client.close()


@pytest.mark.parametrize("asked", [MINE, "q"])
async def test_a_tenant_sees_its_spans_and_the_batches_that_they_were_part_of(client: Client, asked: str) -> None:
    found = await collect_trace(client, asked, "ann", words=True)
    assert (found.id, found.trace_id) == (asked, MINE)
    assert [(one.name, one.service, one.linked) for one in found.spans] == [
        ("span 1", "one", False),
        ("span 2", "two", False),
        ("span 3", "two", True),
    ]
    assert (found.started_at, found.duration_ms) == (101.0, 1500.0)


async def test_why_something_failed_is_not_said_to_who_may_not_see_everything(broker: NatsServer) -> None:
    error = "Problem: There is no collection 'salaries'."
    raised = EventReport(
        name="exception",
        at=101.0,
        attributes={"exception.type": "Problem", "exception.message": "There is no collection 'salaries'."},
    )
    failed = span(1, "ann").model_copy(update={"error": error, "events": (raised,)})
    told = TraceReport(service="scheduler", instance="1", traces=(MINE,), spans=(failed,))
    async with await nats.connect(broker.url) as client:

        async def answer(message: Msg) -> None:
            await message.respond(told.model_dump_json().encode())

        await client.subscribe(TRACE, cb=answer)
        whole = await collect_trace(client, MINE, "ann", words=True)
        wordless = await collect_trace(client, MINE, "ann", words=False)
    assert (whole.spans[0].error, whole.spans[0].events) == (error, (raised,))
    assert wordless.spans[0].error == "Problem"
    assert wordless.spans[0].events[0].attributes == {"exception.type": "Problem"}
    assert "salaries" not in wordless.model_dump_json()


@pytest.mark.parametrize(("asked", "tenant"), [(MINE, "eve"), ("q", "eve"), ("unknown", "ann"), (BATCH, "ann")])
async def test_what_is_not_a_tenants_is_not_there_for_it(client: Client, asked: str, tenant: str) -> None:
    with pytest.raises(Problem) as refused:
        await collect_trace(client, asked, tenant, words=True)
    assert refused.value.kind is ProblemType.NOT_FOUND


def summary(trace: str, at: float, ended: float | None, *, name: str, error: str | None = None) -> TraceSummary:
    return TraceSummary(
        trace_id=trace, conversation=trace[:2], name=name, started_at=at, ended_at=ended, spans=2, error=error
    )


async def test_the_parts_of_the_latest_traces_are_put_together_the_newest_first(broker: NatsServer) -> None:
    parts = {
        "gateway": [summary("aa", 100.0, 101.0, name="POST /v1/query"), summary("bb", 200.0, None, name="POST")],
        "worker": [summary("aa", 100.5, 103.0, name="process", error="Problem: 'salaries.pdf' is broken")],
    }
    asked: list[TraceRequest] = []
    async with await nats.connect(broker.url) as client:

        async def answer(message: Msg) -> None:
            asked.append(TraceRequest.model_validate_json(message.data))
            for service, latest in parts.items():
                told = TraceReport(service=service, instance="1", traces=(), spans=(), latest=tuple(latest))
                await message.respond(told.model_dump_json().encode())

        await client.subscribe(TRACE, cb=answer)
        found = (await latest_traces(client, 5, "ann", words=True)).traces
        newest = (await latest_traces(client, 1, "ann", words=True)).traces
        (_, wordless) = (await latest_traces(client, 5, "ann", words=False)).traces
    assert [(request.latest, request.tenant) for request in asked] == [(5, "ann"), (1, "ann"), (5, "ann")]
    assert [(one.trace_id, one.name, one.duration_ms, one.error) for one in found] == [
        ("bb", "POST", None, None),
        ("aa", "POST /v1/query", 3000.0, "Problem: 'salaries.pdf' is broken"),
    ]
    assert (found[1].services, found[1].spans, found[1].id) == (["gateway", "worker"], 4, "aa")
    assert newest == found[:1]
    assert wordless.error == "Problem"
