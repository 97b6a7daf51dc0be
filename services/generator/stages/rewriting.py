"""Short texts that the engine writes about a question before anything is searched for."""

import logging
import re
from contextlib import aclosing
from typing import Final

import anyio

from services.generator.engines.base import Engine, Finish, FinishReason, Prompt, TextDelta
from shared.contracts.envelope import Message, Query
from shared.contracts.generation import GenerateParams, Mode
from shared.contracts.problems import Problem

__all__ = ["SECONDS", "Rewriter"]

log = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""To wait for the engine at most, unless it is said otherwise."""

SHARE: Final = 1 / 3
"""Of the time that the query has left, how much the engine may take."""

MAX_TOKENS: Final = 256

_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


class Rewriter:
    """Asks an engine within a part of the query's time. A search can do without what is not written."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def write(
        self, query: Query, system: str, user: str, *, seconds: float = SECONDS, whole: bool = True
    ) -> str | None:
        """What the model writes, without its thoughts.

        None for an engine without a model, and where it is late or fails; also where it does not come to an end, if the
        text is of use only as a `whole`.
        """
        limit = min(seconds, query.remaining * SHARE)
        if not self._engine.model or limit <= 0:
            return None
        try:
            with anyio.fail_after(limit):
                return await self._written(query, system, user, whole)
        except TimeoutError:
            log.warning("a question was not rewritten in time", extra={"query": query.id})
        except Problem as problem:
            log.warning("a question was not rewritten: %s", problem, extra={"query": query.id})
        return None

    async def _written(self, query: Query, system: str, user: str, whole: bool) -> str | None:
        params = GenerateParams(mode=Mode.CHAT, temperature=0.0, max_tokens=MAX_TOKENS)
        messages = (Message(role="system", content=system), Message(role="user", content=user))
        prepared = await self._engine.prepare(Prompt(messages=messages, params=params, tenant=query.tenant))
        text: list[str] = []
        async with aclosing(self._engine.generate(prepared)) as items:
            async for item in items:
                if isinstance(item, TextDelta):
                    text.append(item.text)
                elif whole and isinstance(item, Finish) and item.reason is FinishReason.LENGTH:
                    return None
        return _THOUGHT.sub("", "".join(text))
