"""The format of `/v1/completions`: one `text_completion`, or chunks of it."""

from collections.abc import Iterable
from typing import Any

from services.gateway.http.sse import Event
from services.gateway.openai.errors import error_event
from services.gateway.openai.formatter import END, FormatContext, answer_details, fingerprint
from services.gateway.openai.responses import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    TokenUsage,
    encode_response,
)
from services.gateway.queries.assembler import Ended, NewText, Part
from services.gateway.queries.session import QuerySession
from shared.contracts.generation import TokenLogprob
from shared.contracts.problems import Problem

__all__ = ["CompletionFormatter"]


class CompletionFormatter:
    """One completion."""

    def __init__(self, format_context: FormatContext) -> None:
        self._format_context = format_context
        self._sent = 0

    def whole(self, session: QuerySession, ended: Ended) -> bytes:
        answer = session.answer
        choice = self._choice(answer.text, answer.logprobs, finish=ended.finish)
        return self._body(session, [choice], usage=TokenUsage.of(ended.usage), **self._end(session, ended))

    def part(self, session: QuerySession, part: Part) -> Iterable[Event]:
        match part:
            case NewText(text, logprobs):
                yield Event(self._body(session, [self._choice(text, logprobs)]))
                self._sent += len(text)
            case Ended():
                choice = self._choice("", (), finish=part.finish)
                yield Event(self._body(session, [choice], **self._end(session, part)))
                if self._format_context.include_usage:
                    yield Event(self._body(session, [], usage=TokenUsage.of(part.usage)))
                yield END

    def problem(self, problem: Problem) -> Event:
        return error_event(problem)

    def _choice(self, text: str, logprobs: tuple[TokenLogprob, ...], *, finish: str | None = None) -> CompletionChoice:
        shown = CompletionLogprobs.of(logprobs, self._sent) if self._format_context.logprobs else None
        return CompletionChoice(index=0, text=text, logprobs=shown, finish_reason=finish)

    def _end(self, session: QuerySession, ended: Ended) -> dict[str, Any]:
        return {
            "system_fingerprint": fingerprint(ended),
            "sluice": answer_details(self._format_context, session, ended, None),
        }

    def _body(self, session: QuerySession, choices: list[CompletionChoice], **members: Any) -> bytes:
        if self._format_context.include_usage:
            members.setdefault("usage", None)
        return encode_response(
            Completion(
                id=f"cmpl-{session.query.id}",
                object="text_completion",
                created=self._format_context.created,
                model=self._format_context.model,
                choices=choices,
                **members,
            )
        )
