"""The stage `generate`: streams an answer from the passages, with citations that point into them."""

from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.generator.citations import CitationCleaner
from services.generator.engines.base import Engine, Finish, GenerationParams, Prompt, PromptPassage
from shared.envelope import Passage, Query
from shared.problems import Problem, ProblemType
from shared.reply import Usage
from shared.stage import Context

__all__ = ["GenerateParams", "Generation"]


class GenerateParams(BaseModel):
    """Parameters of the stop."""

    model_config = ConfigDict(frozen=True)

    max_tokens: int = Field(512, ge=1, le=8192)
    temperature: float | None = Field(0.0, ge=0, le=2)
    stop: tuple[str, ...] = Field((), max_length=4)
    seed: int | None = None

    @classmethod
    def of(cls, params: dict[str, Any]) -> GenerationParams:
        """Raises Problem INVALID_REQUEST."""
        try:
            return GenerationParams(**cls.model_validate(params).model_dump())
        except ValidationError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"Parameters of the stage 'generate': {error}") from None


class Generation:
    """Sends the sources, then the answer as the engine writes it, then the end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, query: Query, context: Context) -> None:
        prompt = Prompt(
            question=query.question,
            passages=tuple(_numbered(i, passage) for i, passage in enumerate(query.passages, start=1)),
            params=GenerateParams.of(context.params),
        )
        await context.sources(query.passages)
        citations = CitationCleaner(len(query.passages))
        async with aclosing(self._engine.generate(prompt)) as items:
            async for item in items:
                if isinstance(item, Finish):
                    await _send(context, citations.flush())
                    usage = Usage(
                        prompt_tokens=item.usage.prompt_tokens, completion_tokens=item.usage.completion_tokens
                    )
                    await context.done(usage=usage, engine=self._engine.name, finish=item.reason.value)
                else:
                    await _send(context, citations.feed(item.text))


async def _send(context: Context, text: str) -> None:
    if text:
        await context.delta(text)


def _numbered(index: int, passage: Passage) -> PromptPassage:
    return PromptPassage(index=index, text=passage.text, document=passage.document)
