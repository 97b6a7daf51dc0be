"""The stage `condense`: a follow-up question becomes one that can be searched for without its conversation."""

import re
from collections.abc import Sequence
from typing import Final

from services.generator.engines.base import Engine
from services.generator.grounding.followup import LONGEST, made_standalone
from services.generator.stages.generate import ORIGINAL_QUESTION
from services.generator.stages.rewriting import Rewriter
from shared.analysis.terms import content_terms
from shared.contracts.envelope import Message, Query
from shared.prompting.sanitizer import Sanitizer
from shared.prompting.templating import TemplateName, Templates, Turn
from shared.runtime.stage import Context

__all__ = ["Condense"]

NEWEST: Final = 6
"""Messages of the conversation that the engine is shown."""

LONGEST_TURN: Final = 1500

_LABEL = re.compile(r"^(?:[\w-]+ ){0,2}question\s*:\s*", re.IGNORECASE)


class Condense:
    """Replaces the question and keeps the asked one in the note `original_question`.

    Written by the engine where it has a model. Where that takes too long, fails or makes no sensible question, and
    for an engine without a model, by the heuristic of `followup`. A question that nothing was said before passes as
    it is.
    """

    def __init__(self, engine: Engine, templates: Templates) -> None:
        self._rewriter = Rewriter(engine)
        self._templates = templates
        self._sanitize = Sanitizer()

    async def __call__(self, query: Query, _context: Context) -> Query:
        said = [one for one in query.messages if one.role in {"user", "assistant"} and (one.content or "").strip()]
        if not said:
            return query
        rewritten = await self._rewritten(query, said)
        if rewritten is None:
            earlier = [one.content or "" for one in said if one.role == "user"]
            rewritten = made_standalone(query.question, earlier)
        if rewritten == query.question:
            return query
        notes = {**query.notes, ORIGINAL_QUESTION: query.question}
        return query.model_copy(update={"question": rewritten, "notes": notes})

    async def _rewritten(self, query: Query, said: Sequence[Message]) -> str | None:
        """The engine's version; None where there is none to use."""
        if len(query.question) > LONGEST:
            return None
        turns = [self._turn(message) for message in said[-NEWEST:]]
        system = self._templates.render(TemplateName.CONDENSE_SYSTEM)
        question = self._sanitize.speech(query.question)
        user = self._templates.render(TemplateName.CONDENSE_USER, turns=turns, question=question)
        text = await self._rewriter.write(query, system, user)
        return _sensible(text, query.question, [turn.text for turn in turns]) if text is not None else None

    def _turn(self, message: Message) -> Turn:
        text = " ".join(self._sanitize.speech(message.content or "").split())
        if len(text) > LONGEST_TURN:
            text = text[:LONGEST_TURN].rpartition(" ")[0] + " …"
        return Turn(role=message.role, text=text)


def _sensible(text: str, question: str, turns: Sequence[str]) -> str | None:
    """The question in what the model wrote: one line, not much longer than it was, about what was talked about."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        return None
    line = _LABEL.sub("", lines[0]).strip().strip("\"'“”«»`*").strip()
    if not line or len(line) > max(300, 3 * len(question)):
        return None
    words = set(content_terms(line))
    return line if words & set(content_terms(" ".join([question, *turns]))) else None
