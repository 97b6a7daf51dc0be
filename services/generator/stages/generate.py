"""The stage `generate`: streams what the engine writes, in the mode that its parameters name."""

import hashlib
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import replace

from services.generator.engines.base import Engine, Finish, Prepared, Prompt, PromptPassage
from services.generator.streaming.citation_stream import CitationStream
from services.generator.streaming.coalescer import DeltaCoalescer
from shared.contracts.envelope import Passage, Query
from shared.contracts.events import Delivered
from shared.contracts.generation import GenerateParams, Mode, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context

__all__ = ["Generate", "ORIGINAL_QUESTION"]

ORIGINAL_QUESTION = "original_question"
"""The note that keeps the question as it was asked, where another one was searched for."""


class Generate:
    """An answer from sources sends these, then the text with its citations checked, then the end. A chat and a
    completion are the engine's text as it is.

    A query that another worker had begun goes on after what its reader has, if the engine can and the text is free;
    an answer in a given form is written anew, and with the same seed, so that it comes out the same.
    """

    def __init__(self, engine: Engine, adapter: str = "", interval: float = 0.0) -> None:
        """Pieces that the engine writes within `interval` seconds are sent as one."""
        self._engine = engine
        self._adapter = adapter
        self._interval = interval

    async def __call__(self, query: Query, context: Context) -> None:
        params = _seeded(GenerateParams.of(context.params), query)
        if params.mode is not Mode.ANSWER:
            self._check_model(params)
        prepared = await self._engine.prepare(self._prompt(query, params))
        if params.mode is Mode.ANSWER:
            await context.sources(query.passages)
        after = await self._resumed(params, context)
        await self._write(query, context, prepared, after)

    def _check_model(self, params: GenerateParams) -> None:
        served = {self._engine.model, self._adapter, *self._engine.adapters}
        if params.model and self._engine.model and params.model not in served:
            raise Problem(
                ProblemType.MODEL_NOT_FOUND,
                f"This worker serves {self._adapter or self._engine.model!r}, not {params.model!r}.",
            )

    def _prompt(self, query: Query, params: GenerateParams) -> Prompt:
        asked = query.notes.get(ORIGINAL_QUESTION)
        condensed = params.mode is Mode.ANSWER and isinstance(asked, str)
        return Prompt(
            question=str(asked) if condensed else query.question,
            standalone=query.question if condensed else "",
            passages=tuple(_numbered(i, passage) for i, passage in enumerate(query.passages, start=1)),
            messages=query.messages,
            params=params,
            adapter=self._adapter,
            tenant=query.tenant,
        )

    async def _resumed(self, params: GenerateParams, context: Context) -> Delivered | None:
        """What to go on after; None to write from the start."""
        delivered = await context.delivered()
        if delivered is None or not delivered.text or not self._engine.resumes or params.constrained:
            return None
        await context.resume(delivered)
        return delivered

    async def _write(self, query: Query, context: Context, prepared: Prepared, after: Delivered | None) -> None:
        citations = _citation_stream(prepared)
        if citations is not None and after is not None:
            citations.resume(after.text)
        calls = _Calls(query.id)
        finish: Finish | None = None
        async with (
            DeltaCoalescer(context, self._interval) as coalescer,
            aclosing(self._engine.generate(prepared, after)) as items,
        ):
            async for item in items:
                if isinstance(item, Finish):
                    finish, last = item, citations.flush() if citations else None
                    if last is not None:
                        await coalescer.send(last)
                    continue
                delta = replace(item, tool_calls=calls.named(item.tool_calls)) if item.tool_calls else item
                if (piece := citations.feed(delta) if citations else delta) is not None:
                    await coalescer.send(piece)
        assert finish is not None
        await self._end(context, prepared, finish, cited=citations.used if citations else ())

    async def _end(self, context: Context, prepared: Prepared, finish: Finish, cited: tuple[int, ...]) -> None:
        await context.done(
            usage=finish.usage,
            engine=self._engine.name,
            model=self._adapter or self._engine.model,
            finish=finish.reason.value,
            context=prepared.context,
            cited=cited,
        )


class _Calls:
    """Gives tool calls ids that are the same whoever writes the answer."""

    def __init__(self, query_id: str) -> None:
        self._query_id = query_id
        self._begun: set[int] = set()

    def named(self, calls: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
        return tuple(call.model_copy(update={"id": self._id(call.index)}) for call in calls)

    def _id(self, index: int) -> str | None:
        if index in self._begun:
            return None
        self._begun.add(index)
        return f"call_{self._query_id}_{index}"


def _seeded(params: GenerateParams, query: Query) -> GenerateParams:
    """With a seed of the query's own where a second worker may have to write the same answer from its start."""
    if not params.constrained or params.seed is not None or params.temperature == 0:
        return params
    digest = hashlib.blake2b(query.id.encode(), digest_size=4).digest()
    return params.model_copy(update={"seed": int.from_bytes(digest) >> 1})


def _citation_stream(prepared: Prepared) -> CitationStream | None:
    """For an answer from sources; only what the engine was shown may be cited."""
    if prepared.prompt.params.mode is not Mode.ANSWER:
        return None
    dropped = set(prepared.context.dropped)
    return CitationStream([passage.index for passage in prepared.prompt.passages if passage.index not in dropped])


def _numbered(index: int, passage: Passage) -> PromptPassage:
    return PromptPassage(index=index, text=passage.text, document=passage.document)
