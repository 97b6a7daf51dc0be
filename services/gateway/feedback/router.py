"""/v1/feedback: what readers say of answers; /v1/readers: all that is kept of one of them"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal

from fastapi import Path, Query, Request
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from services.gateway.answers.recorder import AnswerRecorder
from services.gateway.answers.service import may_judge, may_see, no_answer
from services.gateway.answers.store import AnswerStore, answer_id
from services.gateway.auth.dependencies import authenticated_router, requires
from services.gateway.auth.principal import Principal
from services.gateway.context import PrincipalDependency
from services.gateway.dependencies import (
    AnswerRecorderDependency,
    AnswersDependency,
    CanaryRecorderDependency,
    FeedbackDependency,
    PayloadRecorderDependency,
    PayloadsDependency,
)
from services.gateway.feedback.models import MAX_BODY, NewFeedback
from services.gateway.feedback.service import count_rating, merged
from services.gateway.feedback.store import FeedbackStore
from services.gateway.http.body import read_json
from services.gateway.http.openapi import problems, request_body
from services.gateway.http.paging import Before, Limit, page_of
from services.gateway.payloads.service import shown
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from sluice.api.feedback import Erased, Feedback, FeedbackPage, KeptAnswer

__all__ = ["router"]

router = authenticated_router("feedback")

ME: Final = "me"

SOON: Final = 3.0
"""Seconds after the question's arrival at any gateway within which its answer may be on the way to the broker."""

LOOK: Final = 0.1

Reader = Annotated[
    str,
    Path(
        min_length=1,
        max_length=300,
        description="Who has asked, such as `user:alice` or the id of a key; `me` is the caller.",
    ),
]


@router.post(
    "/v1/feedback",
    summary="Say what an answer is worth",
    openapi_extra=request_body(json=NewFeedback),
    responses=problems(ProblemType.NOT_FOUND, ProblemType.CONFLICT, ProblemType.TOO_LARGE),
)
@requires(Action.QUERY, Action.READ)
async def create(
    request: Request,
    answers: AnswersDependency,
    feedback: FeedbackDependency,
    recorder: AnswerRecorderDependency,
    canaries: CanaryRecorderDependency,
    principal: PrincipalDependency,
) -> Feedback:
    """Of one's own answer; who may `read` everything of the tenant says it of any. What the same reader says later is
    added, or replaces what they have said before."""
    body = await read_json(request, NewFeedback, MAX_BODY)
    name = answer_id(body.answer)
    if name is None:
        raise no_answer(body.answer)
    kept = await _kept(answers, feedback, recorder, principal, name)
    if kept is None:
        raise no_answer(body.answer, soon=recorder.keeps(principal.tenant) and _is_new(name))
    # An application that does not say for whom it calls speaks for whoever has asked.
    reader = kept.reader if principal.reader == kept.key else principal.reader
    redacted = body.model_copy(
        update={
            text: await recorder.redacted(said)
            for text in ("correction", "comment")
            if (said := getattr(body, text)) is not None
        }
    )
    before, after = await feedback.change(
        principal.tenant, name, reader, lambda known: merged(known, redacted, kept, reader)
    )
    count_rating(before, after)
    canaries.rated(principal.tenant, before, after)
    if not may_see(principal, after.kept):
        return after.model_copy(update={"kept": KeptAnswer(id=name, answer="")})
    return after


@router.get("/v1/feedback", summary="List what readers say", responses=problems())
@requires(Action.QUERY, Action.READ)
async def list_all(
    feedback: FeedbackDependency,
    principal: PrincipalDependency,
    rating: Annotated[
        Literal["up", "down", "none"] | None, Query(description="Only with this rating, or with none.")
    ] = None,
    collection: Annotated[str | None, Query(description="Only of answers from this collection.")] = None,
    limit: Limit = 20,
    before: Before = None,
) -> FeedbackPage:
    """The last said first: all of the tenant for who may `read` all its collections and documents, or else of the
    caller's own answers."""
    wanted = "" if rating == "none" else rating

    def admits(one: Feedback) -> bool:
        return (
            may_see(principal, one.kept) and wanted in (None, one.rating) and collection in (None, one.kept.collection)
        )

    tenant = principal.tenant
    found, following = await page_of(lambda count, last: feedback.newest(tenant, count, last), limit, before, admits)
    return FeedbackPage(feedback=tuple(found), next=following)


@router.get(
    "/v1/readers/{reader:path}",
    summary="Export what is kept of a reader",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One JSON object a line: a KeptAnswer as `answer`, Feedback as `feedback`, or a Payload as "
            "`payload`",
            "content": {"application/x-ndjson": {}},
        },
        **problems(),
    },
)
@requires(Action.QUERY, Action.READ)
async def export(
    reader: Reader,
    answers: AnswersDependency,
    feedback: FeedbackDependency,
    payloads: PayloadsDependency,
    principal: PrincipalDependency,
) -> StreamingResponse:
    """Their questions with the answers, their feedback, and what of their calls of models is logged. Another reader's
    takes the action `admin`. Others than an admin get of their own what the key and the permissions of this request let
    them see."""
    name, whole = _reader(principal, reader), principal.may(Action.ADMIN)

    async def lines() -> AsyncIterator[bytes]:
        async for answer in answers.of_reader(principal.tenant, name):
            if whole or may_see(principal, answer):
                yield to_json({"answer": answer}) + b"\n"
        async for said in feedback.about_reader(principal.tenant, name):
            if whole or may_see(principal, said.kept):
                yield to_json({"feedback": said}) + b"\n"
        async for stored in payloads.of_reader(principal.tenant, name):
            # What one has sent oneself, and got, hides nothing from the same key.
            if whole or stored.record.key == principal.key:
                yield to_json({"payload": shown(stored)}) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.delete("/v1/readers/{reader:path}", summary="Erase what is kept of a reader", responses=problems())
@requires(Action.QUERY, Action.READ)
async def erase(
    reader: Reader,
    answers: AnswersDependency,
    feedback: FeedbackDependency,
    recorder: AnswerRecorderDependency,
    payloads: PayloadsDependency,
    payload_recorder: PayloadRecorderDependency,
    principal: PrincipalDependency,
) -> Erased:
    """Their questions with the answers, those of shadows too, all feedback on them and of theirs, and what of their
    calls of models is logged. Another reader's takes the action `admin`. Conversations of the console are not among it:
    `DELETE /v1/conversations`."""
    name, judged = _reader(principal, reader), 0
    await recorder.written()
    await payload_recorder.written()
    asked = await answers.erase(principal.tenant, name)
    async for said in feedback.about_reader(principal.tenant, name):
        await feedback.delete(principal.tenant, said)
        judged += 1
    return Erased(answers=asked, feedback=judged, payloads=await payloads.erase(principal.tenant, name))


def _reader(principal: Principal, named: str) -> str:
    """Raises Problem FORBIDDEN for another reader than the caller, and NOT_FOUND where nobody can tell who calls."""
    if named not in (ME, principal.reader):
        principal.need(Action.ADMIN)
        return named
    if not principal.reader:
        detail = "Without API keys nobody can tell readers apart. Name one, or remove answers by their ids."
        raise Problem(ProblemType.NOT_FOUND, detail)
    if principal.identity is not None and not principal.user:
        # By its groups alone it would be taken for the application, with the answers to everybody.
        raise Problem(ProblemType.NOT_FOUND, "The identity of this request names no user, so nothing is its own.")
    return principal.reader


async def _kept(
    answers: AnswerStore, feedback: FeedbackStore, recorder: AnswerRecorder, principal: Principal, name: str
) -> KeptAnswer | None:
    """The answer that the caller may judge; None for any other."""
    patience = time.monotonic() + SOON
    found = await answers.get(principal.tenant, name)
    if found is None and (said := await feedback.get(principal.tenant, name, principal.reader)) is not None:
        found = said.kept
    while found is None and recorder.keeps(principal.tenant) and time.monotonic() < patience and _is_new(name):
        # It may be on its way to the broker, from here or from another gateway.
        await asyncio.sleep(LOOK)
        found = await answers.get(principal.tenant, name)
    return found if found is not None and may_judge(principal, found) else None


def _is_new(name: str) -> bool:
    """Whether a query with this id was asked a moment ago: an id begins with the time, in milliseconds."""
    return abs(time.time() - int(name[:11], 16) / 1e3) < SOON + 300
