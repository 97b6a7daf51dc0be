"""What the model writes, taken apart: reasoning, text and tool calls, by vLLM's own parsers for the model's format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.parser_manager import ParserManager

from services.generator.engines.base import TextDelta
from services.generator.engines.vllm.stop_strings import Piece
from services.generator.engines.vllm.tool_calls import CallReader, new_call_id
from shared.contracts.generation import GenerateParams, TokenLogprob, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Parsers", "Parsing", "Reader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsing:
    """How one answer is to be taken apart; `request` also says what the parser wants of the sampling.

    `parser` makes a parser: each holds what it has read of one answer.
    """

    parser: Callable[[], Any]
    request: ChatCompletionRequest
    prompt: list[int]


class Parsers:
    """The parsers that the settings name. Raises TypeError where vLLM has none of that name for this tokenizer."""

    def __init__(self, tokenizer: Any, model_config: Any, *, tools: str, reasoning: str) -> None:
        self.tools = bool(tools)
        self._tokenizer = tokenizer
        self._model_config = model_config
        self._class = ParserManager.get_parser(
            tool_parser_name=tools or None,
            reasoning_parser_name=reasoning or None,
            enable_auto_tools=True,
            model_name=model_config.model,
            tokenizer=tokenizer,
        )
        self._reasoning = bool(reasoning)

    def wanted(self, params: GenerateParams) -> bool:
        """Whether an answer with these parameters must be parsed at all."""
        return self._reasoning or (bool(params.tools) and params.tool_choice == "auto")

    def parsing(
        self, params: GenerateParams, messages: Sequence[Mapping[str, Any]], prompt: list[int], grammar: Any
    ) -> Parsing:
        """Raises Problem INVALID_REQUEST for tools that are no tools."""
        auto = params.tool_choice == "auto" and bool(params.tools)
        try:
            request = ChatCompletionRequest(
                model=self._model_config.model,
                messages=list(messages) or [{"role": "user", "content": ""}],
                tools=list(params.tools) if auto else None,
                tool_choice="auto" if auto else "none",
                parallel_tool_calls=params.parallel_tool_calls,
            )
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
            raise Problem(ProblemType.INVALID_REQUEST, f"vLLM does not take these tools: {found}.") from None
        request.structured_outputs = grammar
        parser = partial(self._class, self._tokenizer, request.tools, model_config=self._model_config)
        return Parsing(parser=parser, request=parser().adjust_request(request), prompt=prompt)


class Reader:
    """Makes deltas from pieces. Tokens of a piece that shows nothing yet go with the next delta."""

    def __init__(self, parsing: Parsing | None, calls: CallReader | None) -> None:
        self._parsing = parsing
        self._parser = parsing.parser() if parsing is not None else None
        self._calls = calls
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self.called = False

    def skip(self, piece: Piece) -> None:
        """Take note of what was delivered before."""
        if self._parsing is not None:
            self._parse(piece, last=False)

    def read(self, piece: Piece, *, last: bool) -> Iterator[TextDelta]:
        """At most one delta."""
        self._tokens += piece.tokens
        self._logprobs += piece.logprobs
        reasoning, text = "", piece.text
        calls: tuple[ToolCallDelta, ...] = ()
        if self._parsing is not None:
            reasoning, text, calls = self._parse(piece, last=last)
        if self._calls is not None:
            text, calls = "", self._calls.read(text)
        if not (reasoning or text or calls):
            return
        self.called = self.called or bool(calls)
        yield TextDelta(
            text=text,
            reasoning=reasoning,
            tool_calls=calls,
            logprobs=tuple(self._logprobs),
            tokens=tuple(self._tokens),
        )
        self._tokens, self._logprobs = [], []

    def _parse(self, piece: Piece, *, last: bool) -> tuple[str, str, tuple[ToolCallDelta, ...]]:
        assert self._parsing is not None
        assert self._parser is not None
        message = self._parser.parse_delta(
            piece.text, list(piece.tokens), self._parsing.request, self._parsing.prompt, finished=last
        )
        if message is None:
            return "", "", ()
        return message.reasoning or "", message.content or "", tuple(map(_call, message.tool_calls or ()))


def _call(call: Any) -> ToolCallDelta:
    name = call.function.name if call.function else None
    arguments = (call.function.arguments if call.function else None) or ""
    return ToolCallDelta(
        index=call.index,
        id=(call.id or new_call_id()) if name else None,
        name=name,
        arguments=arguments,
    )
