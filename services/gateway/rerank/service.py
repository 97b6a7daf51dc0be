"""Reranks the documents of a request, as queries with a slip of one stop."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from services.gateway.context import charge_tokens, context_of
from services.gateway.openai.models.model_registry import RERANK
from services.gateway.openai.planner import model_stop, timeout_of
from services.gateway.queries.planner import validate_question
from services.gateway.queries.portions import Part, ask_portions, portions
from services.gateway.state import state_of
from shared.contracts.envelope import Passage, Query, Stop
from shared.contracts.events import Usage
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Ranked", "Ranking", "rank"]

PORTION_TEXTS: Final = 128
"""Documents of one query."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document, by its place in the request, and its score from 0 to 1."""

    index: int
    score: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All documents of a request, the best first, and the tokens of its texts as the model counts them."""

    id: str
    model: str
    ranked: Sequence[Ranked]
    tokens: int


async def rank(
    request: Request, question: str, texts: Sequence[str], *, model: str | None, timeout: float | None = None
) -> Ranking:
    """Score every text. Documents of equal scores keep their order.

    Raises Problem MODEL_NOT_FOUND, INVALID_QUESTION, INVALID_REQUEST, DEADLINE_EXCEEDED where the time was too short
    for all, or the first of a query.
    """
    state, context = state_of(request), context_of(request)
    question = validate_question(question, state.settings)
    seconds = timeout_of(timeout, state.settings)
    backend = await state.backend(hold=False)
    stop = Stop(stage=RERANK)
    if model is not None:
        stop = await model_stop(RERANK, model, context.tenant, backend.models, backend.model_store)
    stop = stop.with_params(budget=seconds)

    def plan(passages: tuple[Passage, ...]) -> Query:
        return state.planner.envelope(context, (stop,), timeout=seconds, question=question, passages=passages)

    asked = portions(texts, member="documents", most=PORTION_TEXTS)
    parts = await ask_portions(request, backend.queries, asked, plan)
    used, tokens = _read_notes(parts)
    charge_tokens(request.scope, model or used, Usage(prompt_tokens=tokens))
    ranked = [Ranked(passage.position, passage.score, passage.text) for part in parts for passage in part.passages]
    if len(ranked) != len(texts):
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'rerank' did not return every document.")
    ranked.sort(key=lambda one: (-one.score, one.index))
    return Ranking(id=str(uuid.uuid4()), model=model or used, ranked=ranked, tokens=tokens)


def _read_notes(parts: Sequence[Part]) -> tuple[str, int]:
    """The model's name and the tokens. Raises Problem DEADLINE_EXCEEDED where documents have no score."""
    model, tokens = "", 0
    for part in parts:
        note = part.ended.notes.get("rerank")
        if not isinstance(note, dict):
            raise Problem(ProblemType.STAGE_FAILED, "The stage 'rerank' did not say what it did.")
        if note.get("scored") != note.get("candidates"):
            detail = "Not every document could be scored in time. Send fewer, or give the request more time."
            raise Problem(ProblemType.DEADLINE_EXCEEDED, detail)
        model = str(note.get("model", ""))
        read = note.get("tokens")
        tokens += read if isinstance(read, int) else 0
    return model, tokens
