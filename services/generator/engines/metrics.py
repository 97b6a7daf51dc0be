"""What the answers cost, whichever engine writes them: time to the first token, time between tokens, tokens."""

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.generator.engines.base import Engine, Finish, Item, Prepared, Prompt, TextDelta
from services.generator.engines.spans import generating
from services.generator.grounding.support import Verdict
from shared.contracts.events import Delivered
from shared.runtime.device import SharedDevice
from shared.telemetry.metrics import TENANT_TOKENS, exemplar, tenants

__all__ = ["MeasuredEngine", "count_rewritten", "count_sentences"]

LABELS: Final = ("engine", "model")
"""`model` is the model's name, or the adapter's where one writes."""

FIRST_TOKEN: Final = Histogram(
    "sluice_generator_time_to_first_token_seconds",
    "Time from the engine's being asked to its first delta.",
    LABELS,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
TOKEN_TIME: Final = Histogram(
    "sluice_generator_time_per_output_token_seconds",
    "Time between two tokens of an answer; of an engine that tells no tokens, between two deltas.",
    LABELS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56),
)
PROMPT_TOKENS: Final = Counter("sluice_generator_prompt_tokens_total", "Tokens read, as the engine counts.", LABELS)
CACHED_TOKENS: Final = Counter("sluice_generator_cached_tokens_total", "Of these, found in the prefix cache.", LABELS)
WRITTEN_TOKENS: Final = Counter("sluice_generator_completion_tokens_total", "Tokens of finished answers.", LABELS)
FINISHED: Final = Counter("sluice_generator_answers_total", "Finished answers.", (*LABELS, "finish"))
SENTENCES: Final = Counter(
    "sluice_generator_sentences_total",
    "Sentences of answers from sources, by verdict: supported, unsupported or dropped.",
    (*LABELS, "verdict"),
)
REWRITTEN: Final = Counter(
    "sluice_generator_answers_rewritten_total",
    "Answers written again because hardly any source supported them.",
    LABELS,
)
RUNNING: Final = Gauge("sluice_generator_running", "Answers being written.", LABELS)


def count_sentences(engine: str, model: str, verdicts: Iterable[Verdict]) -> None:
    for one in verdicts:
        verdict = "supported" if one.supported else "unsupported" if one.start < one.end else "dropped"
        SENTENCES.labels(engine, model, verdict).inc()


def count_rewritten(engine: str, model: str) -> None:
    REWRITTEN.labels(engine, model).inc()


class MeasuredEngine:
    """An engine, and what its answers cost on /metrics and in traces."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._device = SharedDevice("generate")

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def model(self) -> str:
        return self._engine.model

    @property
    def room(self) -> int:
        return self._engine.room

    @property
    def resumes(self) -> bool:
        return self._engine.resumes

    @property
    def adapters(self) -> tuple[str, ...]:
        return self._engine.adapters

    async def start(self) -> None:
        await self._engine.start()

    async def prepare(self, prompt: Prompt) -> Prepared:
        return await self._engine.prepare(prompt)

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:
        # Adapters of the store are any number, and count as the model.
        model = prepared.prompt.adapter if prepared.prompt.adapter in self.adapters else self.model
        labels = (self.name, model)
        example = exemplar()
        before = time.perf_counter()
        first = True
        with (
            RUNNING.labels(*labels).track_inprogress(),
            self._device.used(prepared.prompt.tenant),
            generating(prepared, engine=self.name, model=model) as span,
        ):
            async with aclosing(self._engine.generate(prepared, after)) as items:
                async for item in items:
                    if isinstance(item, Finish):
                        _count(item, labels, prepared.prompt.tenant)
                        span.finish(item)
                    else:
                        now = time.perf_counter()
                        _observe(item, now - before, labels, first=first, example=example)
                        if first:
                            span.first(now - before)
                        before, first = now, False
                    yield item

    async def close(self) -> None:
        await self._engine.close()


def _observe(
    delta: TextDelta, seconds: float, labels: tuple[str, str], *, first: bool, example: dict[str, str] | None
) -> None:
    if first:
        FIRST_TOKEN.labels(*labels).observe(seconds, example)
    else:
        TOKEN_TIME.labels(*labels).observe(seconds / max(1, len(delta.tokens)))


def _count(finish: Finish, labels: tuple[str, str], tenant: str) -> None:
    usage = finish.usage
    PROMPT_TOKENS.labels(*labels).inc(usage.prompt_tokens)
    CACHED_TOKENS.labels(*labels).inc(usage.cached_tokens)
    WRITTEN_TOKENS.labels(*labels).inc(usage.completion_tokens)
    FINISHED.labels(*labels, finish.reason.value).inc()
    whose = tenants.label(tenant)
    TENANT_TOKENS.labels(whose, "prompt").inc(usage.prompt_tokens)
    TENANT_TOKENS.labels(whose, "cached").inc(usage.cached_tokens)
    TENANT_TOKENS.labels(whose, "completion").inc(usage.completion_tokens)
