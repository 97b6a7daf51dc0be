"""Text to tokens and back, as the model's own tokenizer and chat template have it."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio.to_thread
from jinja2 import TemplateError
from vllm.exceptions import VLLMClientError
from vllm.renderers.params import ChatParams, TokenizeParams

from shared.contracts.problems import Problem, ProblemType

__all__ = ["Renderer"]

LONG_TEXT: Final = 20_000
"""Characters from which on a text is tokenized off the event loop."""

CONTEXT_TOKENS: Final = 8
"""Tokens before a text that its decoding depends on: a leading space, a character of several tokens."""

PARTIAL_TOKENS: Final = 3
"""Tokens at the end of a text that may be a character's first bytes: UTF-8 has four for one at most."""

_CHAT: Final = TokenizeParams(max_total_tokens=None, add_special_tokens=False)
_PLAIN: Final = TokenizeParams(max_total_tokens=None, add_special_tokens=True)


class Renderer:
    """The tokens of a conversation or a text, from vLLM's own renderer.

    The control tokens of the chat format cannot be written into a message: `<|im_end|>` in a document becomes
    `< |im_end|>`, so that no document ends its turn and opens another.
    """

    def __init__(self, renderer: Any, *, chat_template: str | None) -> None:
        self._renderer = renderer
        self._template = chat_template
        tokenizer = renderer.get_tokenizer()
        # vLLM's threads use theirs at the same time.
        self._tokenizer = copy.deepcopy(tokenizer)
        self.special = tuple(one for one in tokenizer.all_special_tokens if len(one) > 1)
        longest_first = sorted(self.special, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def count(self, text: str) -> int:
        """How many tokens the text has inside a message. May be called in any thread."""
        return len(self._encode(self._sanitize(text)))

    async def chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """The conversation up to where the model's answer begins. Raises Problem INVALID_REQUEST."""
        conversation = [self._message(message) for message in messages]
        given = {"tools": list(tools) or None, "add_generation_prompt": True, "continue_final_message": False}
        params = ChatParams(chat_template=self._template, chat_template_kwargs=given)
        try:
            _, (prompt,) = await self._renderer.render_chat_async([conversation], params, _CHAT)
        except (VLLMClientError, TemplateError, ValueError, TypeError, KeyError) as error:
            detail = f"The model's chat template does not take this conversation: {error}"
            raise Problem(ProblemType.INVALID_REQUEST, detail) from None
        return list(prompt["prompt_token_ids"])

    async def plain(self, text: str) -> list[int]:
        """The text as it is, after the tokens that the model wants at the beginning of any text."""
        (prompt,) = await self._renderer.render_cmpl_async([{"prompt": text}], _PLAIN)
        return list(prompt["prompt_token_ids"])

    async def continuation(self, before: Sequence[int], text: str, tokens: Sequence[int]) -> list[int]:
        """The tokens to go on from after `text`: `tokens` where they spell it, otherwise the text's own.

        The last of `tokens` are left out where they are the beginning of a character, of which there is no text.
        """
        if len(text) > LONG_TEXT:
            return await anyio.to_thread.run_sync(self._continuation, before, text, tokens)
        return self._continuation(before, text, tokens)

    def _continuation(self, before: Sequence[int], text: str, tokens: Sequence[int]) -> list[int]:
        for kept in range(len(tokens), max(0, len(tokens) - PARTIAL_TOKENS - 1), -1):
            if self._spells(before, tokens[:kept], text):
                return list(tokens[:kept])
        plain = self._encode(text)
        if self._spells(before, plain, text):
            return plain
        # A tokenizer that puts a space before any text does not do so in the middle of a line.
        start = self._encode("\n")
        inner = self._encode("\n" + text)
        return inner[len(start) :] if inner[: len(start)] == start else plain

    def _spells(self, before: Sequence[int], tokens: Sequence[int], text: str) -> bool:
        context = list(before[-CONTEXT_TOKENS:])
        start = self._decode(context)
        whole = self._decode([*context, *tokens])
        return whole.startswith(start) and whole[len(start) :] == text

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        made = dict(message)
        if made["role"] == "developer":  # the newer name, which hardly any template knows
            made["role"] = "system"
        if isinstance(content := made.get("content"), str):
            made["content"] = self._sanitize(content)
        return made

    def _sanitize(self, text: str) -> str:
        if self._control is None:
            return text
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
