"""What is kept of an answer, and who may look at it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from starlette.types import Scope

from services.gateway.answers.recorder import AnswerRecorder
from services.gateway.auth.principal import Principal
from services.gateway.context import REQUEST_CONTEXT, RequestContext
from services.gateway.queries.assembler import AnswerAssembler, Ended
from services.gateway.queries.formatter import answer_of, timings_of
from services.gateway.queries.session import QuerySession
from services.gateway.variants.shadow_metrics import Run, source_overlap, text_overlap
from shared.contracts.envelope import Lane, Query
from shared.contracts.principals import covers
from shared.nats.kv import Stored
from sluice.api.feedback import Comparison, KeptAnswer
from sluice.api.models import Timings

__all__ = ["compare", "keep_answer", "keep_shadow", "may_judge", "may_see", "page_of"]

Record = TypeVar("Record")

MOST_LOOKED: Final = 2000
"""Records that one page looks through for those that it shows."""

PORTION: Final = 50


def keep_answer(scope: Scope, session: QuerySession, ended: Ended, collection: str | None) -> None:
    """Keep an answer of the interactive lane, where the settings say so. None is the collection of no documents."""
    context: RequestContext = scope[REQUEST_CONTEXT]
    recorder: AnswerRecorder = scope["app"].state.gateway.answers
    if session.query.lane is not Lane.INTERACTIVE or not recorder.keeps(context.tenant):
        return
    principal = context.principal
    answer = _kept(session.query, session.answer, ended, timings_of(session, ended))
    about = {"collection": collection or "", "reader": principal.reader, "key": principal.key}
    session.kept = answer.model_copy(update=about)
    recorder.keep(context.tenant, session.kept)


def keep_shadow(
    recorder: AnswerRecorder,
    beside: KeptAnswer,
    live: Query,
    answer: AnswerAssembler,
    ended: Ended,
    run: Run,
    *,
    stage: str,
    variant: str,
) -> None:
    """Keep what a shadow has answered to a live query, as one of whoever has asked."""
    first = None if run.first_delta is None else run.first_delta * 1e3
    timings = Timings(total_ms=run.seconds * 1e3, first_delta_ms=first, stages=ended.trail)
    whose = {"collection": beside.collection, "reader": beside.reader, "key": beside.key}
    kept = _kept(live, answer, ended, timings)
    recorder.keep(live.tenant, kept.model_copy(update={**whose, "stage": stage, "variant": variant}))


def _kept(query: Query, answer: AnswerAssembler, ended: Ended, timings: Timings) -> KeptAnswer:
    question, turns = query.question, list(query.messages)
    if not question and turns:  # a chat with a model alone
        question = turns.pop().content or ""
    return KeptAnswer.model_validate(
        {
            **dict(answer_of(query, answer, ended, timings)),
            "question": question,
            "messages": tuple({"role": turn.role, "content": turn.content} for turn in turns),
            "asked_at": query.asked_at,
            "principals": query.principals,
        }
    )


def may_see(principal: Principal, answer: KeptAnswer) -> bool:
    """Whether the caller has asked for this answer, or may look at everything of the tenant.

    An application may see what it has asked for its users, where it does not say for which of them it calls. The
    sources hold the text of documents: who may see less by now than the answer was made from does not see it.
    """
    if principal.sees_everything:
        return True
    asked = principal.key == answer.key and principal.reader in (answer.reader, answer.key)
    return asked and principal.sees(answer.collection) and covers(principal.reads_as, answer.principals)


def may_judge(principal: Principal, answer: KeptAnswer) -> bool:
    """Whether the caller may say what the answer is worth: also an application that sees less than its user."""
    return may_see(principal, answer) or (principal.identity is None and principal.key == answer.key)


async def page_of(
    read: Callable[[int, int | None], Awaitable[Sequence[Stored[Record]]]],
    limit: int,
    before: int | None,
    admits: Callable[[Record], bool],
) -> tuple[list[Record], int | None]:
    """Up to `limit` records that are admitted, and before which one the next page begins, None at the end.

    `read` returns so many records before a revision, the newest first. A page that has looked through many records
    ends early.
    """
    found: list[Record] = []
    looked = 0
    while looked < MOST_LOOKED:
        portion = await read(PORTION, before)
        for stored in portion:
            if admits(stored.record):
                if len(found) == limit:
                    return found, before
                found.append(stored.record)
            before = stored.revision
        looked += len(portion)
        if len(portion) < PORTION:
            return found, None
    return found, before


def compare(live: KeptAnswer, shadow: KeptAnswer) -> Comparison:
    """The answers to one query beside each other."""
    return Comparison(
        stage=shadow.stage,
        variant=shadow.variant,
        text_overlap=text_overlap(live.answer, shadow.answer),
        source_overlap=source_overlap(_places(live), _places(shadow)),
        live=live,
        shadow=shadow,
    )


def _places(answer: KeptAnswer) -> frozenset[tuple[str, int]]:
    return frozenset((source.document_id, source.position) for source in answer.sources)
