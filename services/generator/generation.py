"""The stage `generate`: streams an answer from the passages, with citations that point into them."""

from contextlib import aclosing

from services.generator.citations import CitationCleaner
from services.generator.engines.base import Engine, Finish, Prompt, PromptPassage
from shared.envelope import Passage, Query
from shared.generation import GenerateParams
from shared.stage import Context

__all__ = ["Generation"]


class Generation:
    """Sends the sources, then the answer as the engine writes it, then the end."""

    def __init__(self, engine: Engine, adapter: str = "") -> None:
        self._engine = engine
        self._adapter = adapter

    async def __call__(self, query: Query, context: Context) -> None:
        prompt = Prompt(
            question=query.question,
            passages=tuple(_numbered(i, passage) for i, passage in enumerate(query.passages, start=1)),
            messages=query.messages,
            params=GenerateParams.of(context.params),
            adapter=self._adapter,
        )
        prepared = await self._engine.prepare(prompt)
        await context.sources(query.passages)
        citations = CitationCleaner(len(query.passages))
        async with aclosing(self._engine.generate(prepared)) as items:
            async for item in items:
                if isinstance(item, Finish):
                    await _send(context, citations.flush())
                    await context.done(
                        usage=item.usage,
                        engine=self._engine.name,
                        model=self._adapter or self._engine.model,
                        finish=item.reason.value,
                        context=prepared.context,
                        cited=citations.used,
                    )
                else:
                    await _send(context, citations.feed(item.text))


async def _send(context: Context, text: str) -> None:
    if text:
        await context.delta(text)


def _numbered(index: int, passage: Passage) -> PromptPassage:
    return PromptPassage(index=index, text=passage.text, document=passage.document)
