"""What every service measures, and the page that shows it.

Observations made for a sampled trace carry its id as an exemplar, in OpenMetrics' form of the page.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

__all__ = [
    "BATCH_ITEMS",
    "BoundedLabel",
    "BATCH_TIME",
    "CANCEL_LATENCY",
    "DEAD_LETTERS",
    "DEVICE_TIME",
    "IN_FLIGHT",
    "JOINED",
    "PIPELINE_CACHE",
    "OUTCOMES",
    "QUEUE_WAIT",
    "REDELIVERIES",
    "ROOM",
    "SECONDS",
    "TENANT_TOKENS",
    "TENANT_WORK",
    "WORK_TIME",
    "MetricsPage",
    "exemplar",
    "tenants",
]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STAGE: Final = ("stage", "variant", "lane")

QUEUE_WAIT = Histogram(
    "sluice_stage_queue_wait_seconds",
    "Time from the broker's receipt of a message to its pull.",
    STAGE,
    buckets=SECONDS,
)
WORK_TIME = Histogram(
    "sluice_stage_work_seconds",
    "Time from the pull of a message to its end in this stage.",
    STAGE,
    buckets=SECONDS,
)
IN_FLIGHT = Gauge("sluice_stage_in_flight", "Messages in work.", STAGE)
ROOM = Gauge("sluice_stage_room", "Messages that may be in work at once.", STAGE)
OUTCOMES = Counter("sluice_stage_messages_total", "Messages by how they ended in this stage.", (*STAGE, "outcome"))
JOINED = Counter(
    "sluice_ensembles_total",
    "Parallel branches that were joined here: merged, failed; and branches that came late, when the query had gone on.",
    ("outcome",),
)
PIPELINE_CACHE = Counter(
    "sluice_pipeline_cache_total",
    "Queries that came to a cache in their pipeline, hit or miss; and what was kept, or not.",
    ("outcome",),
)
REDELIVERIES = Counter(
    "sluice_stage_redeliveries_total", "Deliveries of messages that had been delivered before.", STAGE
)
CANCEL_LATENCY = Histogram(
    "sluice_stage_cancel_seconds",
    "Time from the reader's leaving to the end of the work for it.",
    STAGE,
    buckets=SECONDS,
)
BATCH_ITEMS = Histogram(
    "sluice_batch_items", "Items that one batch had.", ("batch",), buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_TIME = Histogram("sluice_batch_seconds", "Time that one batch took.", ("batch",), buckets=SECONDS)
DEAD_LETTERS = Counter("sluice_dead_letters_total", "Work that was given up, by its plane: query or job.", ("plane",))
TENANT_TOKENS = Counter(
    "sluice_tenant_tokens_total",
    "Tokens by tenant and type: prompt, cached, completion, embed or rerank.",
    ("tenant", "type"),
)
TENANT_WORK = Counter(
    "sluice_tenant_work_seconds_total", "Seconds that messages were in work, by tenant and stage.", ("tenant", "stage")
)
DEVICE_TIME = Counter(
    "sluice_tenant_device_seconds_total",
    "Seconds of the model's device, shared among those whose work ran at the same time.",
    ("tenant", "stage"),
)


class BoundedLabel:
    """The first `most` names that a process meets are labels of their own, all others `other`."""

    OTHER: Final = "other"

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self.most:
            return self.OTHER
        self._known.add(name)
        return name


tenants = BoundedLabel(100)
"""Shared by all metrics of the process, so that a tenant is named in all of them or in none."""


def exemplar(context: Context | None = None) -> dict[str, str] | None:
    """The trace of a context (default: the current one) for an observation; None where it is not sampled."""
    span = trace.get_current_span(context).get_span_context()
    return {"trace_id": format(span.trace_id, "032x")} if span.trace_flags.sampled else None


class MetricsPage:
    """An ASGI app: the metrics in the form that the scraper prefers, OpenMetrics or the older text.

    `before` is awaited first by each scrape, for what is measured only when somebody looks.
    """

    def __init__(self, before: list[Callable[[], Awaitable[None]]]) -> None:
        self._before = before

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  (ASGI)
        for measure in self._before:
            await measure()
        accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        encode, content_type = choose_encoder(accepted)
        body = encode(REGISTRY)
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
