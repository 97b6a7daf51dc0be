"""How `/v1/completions` tells an answer: one `text_completion`, or chunks of it."""

from collections.abc import Iterable
from typing import Any

from services.gateway.http.sse import Event
from services.gateway.openai.errors import error_event
from services.gateway.openai.formatter import END, FormatContext, answered_by, fingerprint
from services.gateway.openai.responses import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    TokenUsage,
    encoded,
)
from services.gateway.queries.assembler import Ended, NewText, Part
from services.gateway.queries.session import QuerySession
from shared.contracts.generation import TokenLogprob
from shared.contracts.problems import Problem

__all__ = ["CompletionFormatter"]


class CompletionFormatter:
    """One completion."""

    def __init__(self, telling: FormatContext) -> None:
        self._telling = telling
        self._told = 0

    def whole(self, flight: QuerySession, ended: Ended) -> bytes:
        answer = flight.answer
        choice = self._choice(answer.text, answer.logprobs, finish=ended.finish)
        return self._body(flight, [choice], usage=TokenUsage.of(ended.usage), **self._end(flight, ended))

    def part(self, flight: QuerySession, part: Part) -> Iterable[Event]:
        match part:
            case NewText(text, logprobs):
                yield Event(self._body(flight, [self._choice(text, logprobs)]))
                self._told += len(text)
            case Ended():
                choice = self._choice("", (), finish=part.finish)
                yield Event(self._body(flight, [choice], **self._end(flight, part)))
                if self._telling.include_usage:
                    yield Event(self._body(flight, [], usage=TokenUsage.of(part.usage)))
                yield END

    def problem(self, problem: Problem) -> Event:
        return error_event(problem)

    def _choice(self, text: str, logprobs: tuple[TokenLogprob, ...], *, finish: str | None = None) -> CompletionChoice:
        shown = CompletionLogprobs.of(logprobs, self._told) if self._telling.logprobs else None
        return CompletionChoice(index=0, text=text, logprobs=shown, finish_reason=finish)

    def _end(self, flight: QuerySession, ended: Ended) -> dict[str, Any]:
        return {
            "system_fingerprint": fingerprint(ended),
            "sluice": answered_by(self._telling, flight, ended, None),
        }

    def _body(self, flight: QuerySession, choices: list[CompletionChoice], **members: Any) -> bytes:
        if self._telling.include_usage:
            members.setdefault("usage", None)
        return encoded(
            Completion(
                id=f"cmpl-{flight.query.id}",
                object="text_completion",
                created=self._telling.created,
                model=self._telling.model,
                choices=choices,
                **members,
            )
        )
