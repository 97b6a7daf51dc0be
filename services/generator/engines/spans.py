"""The span of an answer's generation, by OpenTelemetry's conventions for generative AI."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry.trace import Span, SpanKind

from services.generator.engines.base import EngineName, Finish, Prepared
from shared.contracts.generation import GenerateParams, Mode
from shared.telemetry.tracing import failed, tracer

__all__ = ["Generating", "generating"]

OPERATION: Final = {Mode.ANSWER: "chat", Mode.CHAT: "chat", Mode.COMPLETION: "text_completion"}
ASKED: Final = ("max_tokens", "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
"""Parameters that the conventions have as `gen_ai.request.<name>`."""


class Generating:
    """What becomes known while an answer is written."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def first(self, seconds: float) -> None:
        """The first delta came after so many seconds."""
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", round(seconds, 6))

    def finish(self, finish: Finish) -> None:
        self._span.set_attributes(
            {
                "gen_ai.usage.input_tokens": finish.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": finish.usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": finish.usage.cached_tokens,
                "gen_ai.response.finish_reasons": [finish.reason.value],
            }
        )


@contextmanager
def generating(prepared: Prepared, *, engine: str, model: str) -> Iterator[Generating]:
    """A span below the current one. It does not become the current one: generators change their callers' context."""
    params = prepared.prompt.params
    operation = OPERATION[params.mode]
    span = tracer.start_span(
        f"{operation} {model}".strip(), kind=SpanKind.CLIENT if engine == EngineName.OPENAI else SpanKind.INTERNAL
    )
    if span.is_recording():
        span.set_attributes(_asked(params))
        span.set_attributes(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": engine,
                "gen_ai.request.model": params.model or model,
                "gen_ai.response.model": model,
                "gen_ai.request.stream": True,
            }
        )
    try:
        yield Generating(span)
    except Exception as error:
        if span.is_recording():
            span.record_exception(error)
            failed(span, type(error).__name__)
        raise
    finally:
        span.end()


def _asked(params: GenerateParams) -> dict[str, float]:
    given = {name: getattr(params, name) for name in ASKED}
    return {f"gen_ai.request.{name}": value for name, value in given.items() if value is not None}
