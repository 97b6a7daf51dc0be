"""The format of `/v1/chat/completions`: one `chat.completion`, or chunks of it."""

from collections.abc import Iterable
from typing import Any

from pydantic_core import to_json

from services.gateway.http.models import sources_from
from services.gateway.http.sse import Event
from services.gateway.openai.chat.citations import annotations
from services.gateway.openai.errors import error_event
from services.gateway.openai.formatter import END, FormatContext, answer_details, fingerprint
from services.gateway.openai.responses import (
    Annotation,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    ChatMessageBody,
    TokenUsage,
    ToolCallBody,
    encode_response,
)
from services.gateway.queries.assembler import Ended, NewReasoning, NewSources, NewText, NewToolCall, Part
from services.gateway.queries.session import QuerySession
from shared.contracts.problems import Problem

__all__ = ["ChatFormatter"]


class ChatFormatter:
    """One chat answer. A stream begins with a chunk that has the role, and the sources if there are any."""

    def __init__(self, format_context: FormatContext) -> None:
        self._format_context = format_context
        self._started = False

    def whole(self, session: QuerySession, ended: Ended) -> bytes:
        answer = session.answer
        calls = [ToolCallBody.of(call.id, call.name, call.arguments) for call in answer.tool_calls]
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if calls and not answer.text else answer.text,
            "refusal": None,
            "annotations": self._annotations(session, ended),
        }
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if calls:
            message["tool_calls"] = calls
        choice = ChatChoice(
            index=0,
            message=ChatMessageBody(**message),
            logprobs=ChatLogprobs.of(answer.logprobs) if self._format_context.logprobs else None,
            finish_reason=ended.finish,
        )
        return encode_response(
            ChatCompletion(
                id=_id(session),
                object="chat.completion",
                created=self._format_context.created,
                model=self._format_context.model,
                choices=[choice],
                usage=TokenUsage.of(ended.usage),
                system_fingerprint=fingerprint(ended),
                sluice=answer_details(self._format_context, session, ended, answer.sources),
            )
        )

    def part(self, session: QuerySession, part: Part) -> Iterable[Event]:
        if not self._started:
            self._started = True
            yield self._first(session, part)
        match part:
            case NewText(text, logprobs):
                shown = ChatLogprobs.of(logprobs) if self._format_context.logprobs else None
                yield self._chunk(session, {"content": text}, logprobs=shown)
            case NewReasoning(text):
                yield self._chunk(session, {"reasoning_content": text})
            case NewToolCall():
                yield self._chunk(session, {"tool_calls": [_piece(part)]})
            case Ended():
                yield from self._last(session, part)

    def problem(self, problem: Problem) -> Event:
        return error_event(problem)

    def _first(self, session: QuerySession, part: Part) -> Event:
        begin = {"role": "assistant", "content": ""}
        if self._format_context.collection is None or not isinstance(part, NewSources):
            return self._chunk(session, begin)
        return self._chunk(session, begin, sluice={"sources": sources_from(part.passages)})

    def _last(self, session: QuerySession, ended: Ended) -> Iterable[Event]:
        named = self._annotations(session, ended)
        yield self._chunk(
            session,
            {"annotations": named} if named else {},
            finish=ended.finish,
            system_fingerprint=fingerprint(ended),
            sluice=answer_details(self._format_context, session, ended, None).model_dump(exclude_unset=True),
        )
        if self._format_context.include_usage:
            yield self._event(session, [], usage=TokenUsage.of(ended.usage))
        yield END

    def _chunk(
        self,
        session: QuerySession,
        delta: dict[str, Any],
        *,
        logprobs: ChatLogprobs | None = None,
        finish: str | None = None,
        **more: Any,
    ) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._event(session, [choice], **more)

    def _event(self, session: QuerySession, choices: list[dict[str, Any]], **more: Any) -> Event:
        """A `ChatChunk`; made without the model, as there is one for each token."""
        chunk = {
            "id": _id(session),
            "object": "chat.completion.chunk",
            "created": self._format_context.created,
            "model": self._format_context.model,
            "choices": choices,
            **more,
        }
        if self._format_context.include_usage:
            chunk.setdefault("usage", None)
        return Event(to_json(chunk))

    def _annotations(self, session: QuerySession, ended: Ended) -> list[Annotation]:
        if self._format_context.collection is None:
            return []
        answer = session.answer
        return annotations(answer.text, answer.sources, ended.cited, self._format_context.collection)


def _id(session: QuerySession) -> str:
    return f"chatcmpl-{session.query.id}"


def _piece(call: NewToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments} if call.name else {"arguments": call.arguments}
    begin = {"id": call.id, "type": "function"} if call.name else {}
    return {"index": call.index, **begin, "function": function}
