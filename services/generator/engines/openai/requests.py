"""From a prompt to the body of a request, in the API's own names; what only vLLM and its like know is in extra_body."""

from collections.abc import Sequence
from typing import Any

from shared.contracts.envelope import Message
from shared.contracts.generation import GenerateParams, OutputFormat

__all__ = ["chat_request", "completion_request"]

FUNCTION = "function:"
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
EXTRA_SAMPLING = ("top_k", "min_p", "repetition_penalty")


def chat_request(
    params: GenerateParams, messages: Sequence[Message], *, model: str, limit: int | None, limit_field: str, after: str
) -> dict[str, Any]:
    """The body for /chat/completions. `after` is the beginning of the answer, which the server is to go on with."""
    spoken = [message.model_dump(mode="json", exclude_none=True) for message in messages]
    extra = _extra(params)
    if after:
        spoken.append({"role": "assistant", "content": after})
        extra |= {"add_generation_prompt": False, "continue_final_message": True}
    body = _common(params, model) | {"messages": spoken}
    if limit is not None:
        body[limit_field] = limit
    if params.tools:
        body |= {"tools": list(params.tools), "tool_choice": _tool_choice(params.tool_choice)}
        body["parallel_tool_calls"] = params.parallel_tool_calls
    if params.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": params.logprobs}
    return body | _format(params.output, extra)


def completion_request(
    params: GenerateParams, text: str, *, model: str, limit: int | None, after: str
) -> dict[str, Any]:
    """The body for /completions."""
    body = _common(params, model) | {"prompt": text + after}
    if limit is not None:
        body["max_tokens"] = limit
    if params.logprobs is not None:
        body["logprobs"] = params.logprobs
    return body | _format(params.output, _extra(params))


def _common(params: GenerateParams, model: str) -> dict[str, Any]:
    chosen = {name: getattr(params, name) for name in SAMPLING} | {"stop": list(params.stop) or None}
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    return body | {name: value for name, value in chosen.items() if value is not None}


def _extra(params: GenerateParams) -> dict[str, Any]:
    extra = {name: value for name in EXTRA_SAMPLING if (value := getattr(params, name)) is not None}
    if params.ignore_eos:
        extra["ignore_eos"] = True
    if params.min_tokens:
        extra["min_tokens"] = params.min_tokens
    return extra


def _format(output: OutputFormat | None, extra: dict[str, Any]) -> dict[str, Any]:
    """`response_format` for what OpenAI knows, vLLM's `structured_outputs` for the rest; and all extras."""
    made: dict[str, Any] = {}
    if output is not None:
        if output.json_schema is not None:
            schema = {"name": "answer", "schema": output.json_schema, "strict": True}
            made["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif output.json_object:
            made["response_format"] = {"type": "json_object"}
        else:
            extra = extra | {"structured_outputs": output.model_dump(mode="json", exclude_none=True)}
    return made | ({"extra_body": extra} if extra else {})


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice.startswith(FUNCTION):
        return {"type": "function", "function": {"name": choice.removeprefix(FUNCTION)}}
    return choice
