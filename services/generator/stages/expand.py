"""The stage `expand`: what the engine writes to search with, beside the question.

The same question in other words, and a passage that may answer it, which lies nearer to a real one than a question
does: Gao, Ma, Lin, Callan, "Precise Zero-Shot Dense Retrieval without Relevance Labels", 2022.
"""

import re
from typing import Final

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.generator.engines.base import Engine
from services.generator.stages.rewriting import SECONDS, Rewriter
from shared.contracts.envelope import Query
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import Expansion
from shared.prompting.sanitizer import Sanitizer
from shared.prompting.templating import TemplateName, Templates
from shared.runtime.stage import Context

__all__ = ["Expand", "ExpandParams"]

LONGEST: Final = 2_000
"""Characters of a question that is expanded, and of what is kept of a passage."""

_MARKER = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.):])\s*")


class ExpandParams(BaseModel):
    """Parameters of the stop: how many paraphrases, whether a passage is written, and how long the engine may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paraphrases: int = Field(2, ge=0, le=5)
    passage: bool = True
    seconds: float = Field(SECONDS, gt=0, le=120)


class Expand:
    """Adds `results.expansion`. Without a model, or where the engine writes nothing in time, the question passes on."""

    def __init__(self, engine: Engine, templates: Templates) -> None:
        self._rewriter = Rewriter(engine)
        self._templates = templates
        self._sanitize = Sanitizer()

    async def __call__(self, query: Query, context: Context) -> Query:
        try:
            params = ExpandParams.model_validate(context.params)
        except ValidationError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"Parameters of the stage 'expand': {error}") from None
        if len(query.question) > LONGEST:
            return query
        question = self._sanitize.speech(query.question)
        paraphrases: tuple[str, ...] = ()
        passage = ""

        async def paraphrase() -> None:
            nonlocal paraphrases
            system = self._templates.render(TemplateName.PARAPHRASE_SYSTEM, count=params.paraphrases)
            text = await self._rewriter.write(query, system, question, seconds=params.seconds)
            paraphrases = _questions(text or "", query.question)[: params.paraphrases]

        async def suppose() -> None:
            nonlocal passage
            system = self._templates.render(TemplateName.PASSAGE_SYSTEM)
            # The beginning of a passage is searched for as well as the whole.
            text = await self._rewriter.write(query, system, question, seconds=params.seconds, whole=False)
            passage = (text or "")[:LONGEST].strip()

        async with anyio.create_task_group() as tasks:
            if params.paraphrases:
                tasks.start_soon(paraphrase)
            if params.passage:
                tasks.start_soon(suppose)
        if not paraphrases and not passage:
            return query
        return query.with_expansion(Expansion(paraphrases=paraphrases, passage=passage))


def _questions(text: str, question: str) -> tuple[str, ...]:
    """A question a line, without its number; neither the asked one nor one twice, and none much longer than it."""
    lines = (_MARKER.sub("", line).strip().strip("\"'“”«»`*").strip() for line in text.splitlines())
    kept = {line.casefold(): line for line in lines if 0 < len(line) <= max(300, 3 * len(question))}
    kept.pop(question.casefold(), None)
    return tuple(kept.values())
