"""What is kept of an answer, and who may look at it."""

from starlette.types import Scope

from services.gateway.answers.recorder import AnswerRecorder
from services.gateway.answers.store import AnswerStore, answer_id
from services.gateway.auth.principal import Principal
from services.gateway.context import REQUEST_CONTEXT, RequestContext
from services.gateway.queries.assembler import Ended
from services.gateway.queries.formatter import answer_of, timings_of
from services.gateway.queries.session import QuerySession
from services.gateway.variants.shadow_metrics import source_overlap, text_overlap
from shared.contracts.envelope import Lane
from shared.contracts.principals import covers
from shared.contracts.problems import Problem, ProblemType
from sluice.api.feedback import Comparison, KeptAnswer

__all__ = ["compare", "keep_answer", "kept_answer", "may_judge", "may_see", "no_answer"]


def keep_answer(scope: Scope, session: QuerySession, ended: Ended, collection: str | None) -> None:
    """Keep an answer of the interactive lane, where the settings say so. None is the collection of no documents."""
    context: RequestContext = scope[REQUEST_CONTEXT]
    recorder: AnswerRecorder = scope["app"].state.gateway.answers
    if session.query.lane is not Lane.INTERACTIVE or not recorder.keeps(context.tenant):
        return
    query, principal = session.query, context.principal
    question, turns = query.question, list(query.messages)
    if not question and turns:  # a chat with a model alone
        question = turns.pop().content or ""
    session.kept = KeptAnswer.model_validate(
        {
            **dict(answer_of(query, session.answer, ended, timings_of(session, ended))),
            "question": question,
            "messages": tuple({"role": turn.role, "content": turn.content} for turn in turns),
            "collection": collection or "",
            "asked_at": query.asked_at,
            "reader": principal.reader,
            "key": principal.key,
            "principals": query.principals,
            "canary": query.canary,
            "shares": query.shares,
        }
    )
    recorder.keep(context.tenant, session.kept)


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


async def kept_answer(answers: AnswerStore, principal: Principal, given: str) -> KeptAnswer:
    """The answer with this id. Raises Problem NOT_FOUND, also for one that the caller may not see."""
    name = answer_id(given)
    found = await answers.get(principal.tenant, name) if name is not None else None
    if found is None or not may_see(principal, found):
        raise no_answer(given)
    return found


def no_answer(given: str, *, soon: bool = False) -> Problem:
    """NOT_FOUND for an answer that is not kept, or may be `soon`."""
    later = " If you have just asked, try again in a moment." if soon else ""
    detail = (
        f"No answer '{given[:80]}' is kept for you. Answers are kept where SLUICE_KEEP_ANSWERS is true, for "
        f"SLUICE_ANSWER_DAYS.{later}"
    )
    return Problem(ProblemType.NOT_FOUND, detail)


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
