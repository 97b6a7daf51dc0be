"""What is sampled, what is remembered, and what metrics say."""

from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags
from prometheus_client import REGISTRY
from pydantic import ValidationError

from shared.runtime import device
from shared.runtime.device import SharedDevice
from shared.service.settings import ServiceSettings
from shared.telemetry import trace_sampling
from shared.telemetry.metrics import BoundedLabel
from shared.telemetry.trace_events import TraceRequest, report
from shared.telemetry.trace_memory import TraceMemory
from shared.telemetry.trace_sampling import Rate, Ratio, TraceSampler


class TracingHarness:
    """A tracer whose spans are remembered and exported."""

    def __init__(self, sampler: TraceSampler, *, spans: int = 100, seconds: float = 60.0) -> None:
        self.exporter = InMemorySpanExporter()
        self.memory = TraceMemory(spans=spans, seconds=seconds, export=SimpleSpanProcessor(self.exporter))
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(self.memory)
        self.tracer = provider.get_tracer("test")

    def span(self, name: str, parent: trace.Span | None = None, *, fails: bool = False) -> trace.Span:
        context = trace.set_span_in_context(parent) if parent is not None else None
        span = self.tracer.start_span(name, context)
        if fails:
            span.set_status(StatusCode.ERROR, "broken")
        span.end()
        return span

    @property
    def exported(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


def unsampled(**bounds: int) -> TracingHarness:
    return TracingHarness(TraceSampler(Ratio(0.0), record_all=True), **bounds)


def number(span: trace.Span) -> int:
    return span.get_span_context().trace_id


def names(memory: TraceMemory, span: trace.Span) -> list[str]:
    return [found.name for found in memory.recall(number(span))]


def test_the_first_failure_exports_its_trace_and_what_follows_and_nothing_else() -> None:
    harness = unsampled()
    announced: list[int] = []
    harness.memory.announce = announced.append
    harness.span("other")
    first = harness.span("first")
    harness.span("failed", first, fails=True)
    harness.span("failed again", first, fails=True)
    harness.span("after", first)
    harness.span("another")
    assert harness.exported == ["first", "failed", "failed again", "after"]
    assert announced == [number(first)]


def test_a_trace_that_failed_elsewhere_is_exported_once() -> None:
    harness = unsampled()
    announced: list[int] = []
    harness.memory.announce = announced.append
    first = harness.span("first")
    harness.memory.keep(number(first))
    harness.memory.keep(number(first))
    harness.span("after", first)
    assert harness.exported == ["first", "after"]
    assert announced == []


def test_a_sampled_trace_is_exported_as_it_ends() -> None:
    harness = TracingHarness(TraceSampler(Ratio(1.0), record_all=True))
    harness.span("failed", harness.span("first"), fails=True)
    assert harness.exported == ["first", "failed"]


def test_the_memory_forgets_the_oldest_spans() -> None:
    harness = unsampled(spans=2)
    first = harness.span("first")
    harness.span("second", first)
    other = harness.span("other")
    assert names(harness.memory, first) == ["second"]
    assert names(harness.memory, other) == ["other"]


def test_the_memory_forgets_spans_whose_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = unsampled()
    span = harness.span("first")
    assert names(harness.memory, span) == ["first"]
    monkeypatch.setattr("shared.telemetry.trace_memory.time.time_ns", lambda: 2**62)
    assert names(harness.memory, span) == []


def test_a_span_that_has_not_ended_is_recalled_too() -> None:
    harness = unsampled()
    span = harness.tracer.start_span("running")
    told = report(harness.memory, TraceRequest(id=format(number(span), "032x")), service="s", instance="i")
    assert [(one.name, one.ended_at) for one in told.spans] == [("running", None)]
    span.end()


def test_a_batch_is_recalled_with_each_trace_that_it_links_to() -> None:
    harness = unsampled()
    works = [harness.span("one"), harness.span("two")]
    batch = harness.tracer.start_span("batch", links=[Link(work.get_span_context()) for work in works])
    batch.end()
    for work in works:
        assert names(harness.memory, work)[-1] == "batch"
        told = report(harness.memory, TraceRequest(id=format(number(work), "032x")), service="s", instance="i")
        linked = next(span for span in told.spans if span.name == "batch")
        assert linked.parent_id == format(work.get_span_context().span_id, "016x")
    harness.memory.keep(number(works[1]))
    assert harness.exported == ["two", "batch"]


@pytest.mark.parametrize("sampled", [True, False])
def test_a_batch_is_sampled_if_one_of_its_queries_is(sampled: bool) -> None:
    harness = TracingHarness(TraceSampler(Ratio(0.0), record_all=True))
    flags = [TraceFlags(TraceFlags.DEFAULT), TraceFlags(int(sampled))]
    links = [Link(SpanContext(1, 2, True, flag)) for flag in flags]
    span = harness.tracer.start_span("batch", links=links)
    assert span.get_span_context().trace_flags.sampled is sampled


def test_no_more_than_the_rate_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(trace_sampling.time, "monotonic", lambda: now[0])
    rate = Rate(2.0)
    assert [rate(0) for _ in range(4)] == [True, True, False, False]
    now[0] += 0.5
    assert [rate(0), rate(0)] == [True, False]
    assert not Rate(0.0)(0)


def test_tenants_beyond_the_bound_are_counted_together() -> None:
    tenants = BoundedLabel(2)
    assert [tenants.label(name) for name in ("a", "b", "c", "a")] == ["a", "b", "other", "a"]


def test_two_who_use_a_device_at_once_share_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(device.time, "perf_counter", lambda: now[0])

    def after(seconds: float) -> None:
        now[0] += seconds

    shared = SharedDevice("sharing")
    with shared.used("sharing-a"):
        after(1.0)
        with shared.used("sharing-b", 3):
            after(4.0)
        after(1.0)
    after(10.0)
    assert _device_seconds("sharing-a") == pytest.approx(1 + 1 + 1)
    assert _device_seconds("sharing-b") == pytest.approx(3)


def _device_seconds(tenant: str) -> float | None:
    return REGISTRY.get_sample_value("sluice_tenant_device_seconds_total", {"tenant": tenant, "stage": "sharing"})


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("otlp_endpoint", "collector:4317", "http://collector:4318"),
        ("otlp_headers", "Bearer token", "name=value"),
        ("trace_ratio", 1.5, "less than or equal to 1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_advice(setting: str, value: object, advice: str) -> None:
    make: Callable[..., ServiceSettings] = ServiceSettings
    with pytest.raises(ValidationError, match=advice):
        make(**{setting: value})


def test_an_endpoint_without_a_path_is_completed() -> None:
    assert ServiceSettings(otlp_endpoint="http://collector:4318").otlp_endpoint == "http://collector:4318/v1/traces"
    assert ServiceSettings(otlp_endpoint="https://host/otlp/traces").otlp_endpoint == "https://host/otlp/traces"
    assert ServiceSettings(otlp_endpoint="").otlp_endpoint is None


def work(harness: TracingHarness, name: str, tenant: str, query: str, *, fails: bool = False) -> trace.Span:
    span = harness.span(name, fails=fails)
    attributes = {"sluice.tenant": tenant, "messaging.message.conversation_id": query}
    harness.tracer.start_span("send", trace.set_span_in_context(span), attributes=attributes).end()
    return span


def test_the_latest_traces_of_a_tenant_are_summed_up_the_newest_first() -> None:
    harness = unsampled()
    work(harness, "first", "ann", "q1")
    second = work(harness, "second", "ann", "q2", fails=True)
    work(harness, "strange", "bob", "q3")
    harness.span("neither a query nor a job")
    told = report(harness.memory, TraceRequest(id="", latest=5, tenant="ann"), service="s", instance="i")
    assert [(one.conversation, one.name, one.spans, one.error) for one in told.latest] == [
        ("q2", "second", 2, "broken"),
        ("q1", "first", 2, None),
    ]
    assert told.latest[0].trace_id == format(number(second), "032x")
    assert told.spans == ()
    fewer = report(harness.memory, TraceRequest(id="", latest=1, tenant="ann"), service="s", instance="i")
    assert [one.conversation for one in fewer.latest] == ["q2"]


def test_a_summary_leaves_out_what_another_tenant_did_in_a_trace_with_the_same_id() -> None:
    harness = unsampled()
    sent = work(harness, "sent", "ann", "q1")
    work_of_another = harness.tracer.start_span(
        "process", trace.set_span_in_context(sent), attributes={"sluice.tenant": "bob"}
    )
    harness.span("the model of another", work_of_another, fails=True)
    work_of_another.end()
    told = report(harness.memory, TraceRequest(id="", latest=5, tenant="ann"), service="s", instance="i")
    assert [(one.conversation, one.spans, one.error) for one in told.latest] == [("q1", 1, None)]


def test_a_trace_that_lasts_is_summed_up_without_an_end() -> None:
    harness = unsampled()
    running = harness.tracer.start_span("running")
    attributes = {"sluice.tenant": "ann", "messaging.message.conversation_id": "q"}
    harness.tracer.start_span("send", trace.set_span_in_context(running), attributes=attributes).end()
    told = report(harness.memory, TraceRequest(id="", latest=5, tenant="ann"), service="s", instance="i")
    assert [(one.name, one.ended_at) for one in told.latest] == [("running", None)]
    running.end()
