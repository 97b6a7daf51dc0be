"""The operations of the HTTP API on kept answers and feedback. See `calls`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from sluice.api.base import Listing
from sluice.api.feedback import AnswerPage, ComparisonPage, Erased, Feedback, FeedbackPage, KeptAnswer
from sluice.api.payloads import Payload
from sluice.client.call import Call
from sluice.client.read import get, model, nothing, pairs, segment

__all__ = [
    "comparisons",
    "delete_answer",
    "erase_reader",
    "export_reader",
    "feedback",
    "give_feedback",
    "kept_answer",
    "kept_answers",
]


def give_feedback(
    answer: str,
    *,
    rating: str | None = None,
    correction: str | None = None,
    comment: str | None = None,
    tags: Iterable[str] | None = None,
    sources: Mapping[int, bool | None] | None = None,
    opened: Sequence[int] = (),
    copied: bool | None = None,
) -> Call[Feedback]:
    """Say what an answer is worth: `rating` is `up`, `down`, or "" to take it back.

    `answer` is the answer's `id`. `sources` says by number whether a source belongs to the question. What is left out
    stays as the same reader has said it before. `SluiceError` with the code `not-found` where the answer is not kept.
    """
    said: dict[str, Any] = {
        "rating": rating,
        "correction": correction,
        "comment": comment,
        "tags": None if tags is None else list(tags),
        "copied": copied,
    }
    body: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if sources:
        body["sources"] = [{"index": index, "relevant": relevant} for index, relevant in sources.items()]
    if opened:
        body["opened"] = list(opened)
    return Call(method="POST", path="/v1/feedback", body={"answer": answer, **body}, parse=model(Feedback), safe=True)


def feedback(
    *, rating: str | None = None, collection: str | None = None, limit: int = 20, before: int | None = None
) -> Call[FeedbackPage]:
    """One page of what readers say, the last said first; `rating` is `up`, `down` or `none`."""
    params = pairs(rating=rating, collection=collection, limit=limit, before=before)
    return get("/v1/feedback", params=params, parse=model(FeedbackPage))


def kept_answers(*, limit: int = 20, before: int | None = None) -> Call[AnswerPage]:
    """One page of the answers that are kept, the newest first."""
    return get("/v1/answers", params=pairs(limit=limit, before=before), parse=model(AnswerPage))


def kept_answer(answer: str) -> Call[KeptAnswer]:
    """One answer that is kept."""
    return get(f"/v1/answers/{segment(answer)}", parse=model(KeptAnswer))


def delete_answer(answer: str) -> Call[None]:
    """Remove an answer that is kept, with those of its shadows; feedback on it stays."""
    return Call(method="DELETE", path=f"/v1/answers/{segment(answer)}", parse=nothing)


def comparisons(
    stage: str, variant: str | None = None, *, limit: int = 20, before: int | None = None
) -> Call[ComparisonPage]:
    """One page of the answers of a stage's shadows beside the live ones to the same queries, the newest first."""
    params = pairs(stage=stage, variant=variant, limit=limit, before=before)
    return get("/v1/comparisons", params=params, parse=model(ComparisonPage))


def export_reader(reader: str = "me") -> Call[list[KeptAnswer | Feedback | Payload]]:
    """All that is kept of a reader, such as `user:alice` or the id of a key: answers to them, feedback, and payloads of
    models.

    Another reader than `me`, who calls, takes an admin's key.
    """
    return get(f"/v1/readers/{segment(reader)}", parse=_exported)


def erase_reader(reader: str = "me") -> Call[Erased]:
    """Erase all that is kept of a reader. See `export_reader`."""
    return Call(method="DELETE", path=f"/v1/readers/{segment(reader)}", parse=model(Erased), safe=True)


def _exported(response: httpx.Response) -> list[KeptAnswer | Feedback | Payload]:
    found: Listing[KeptAnswer | Feedback | Payload] = Listing()
    for line in response.content.splitlines():
        record = json.loads(line)
        if "answer" in record:
            found.append(KeptAnswer.model_validate(record["answer"]))
        elif "feedback" in record:
            found.append(Feedback.model_validate(record["feedback"]))
        elif "payload" in record:
            found.append(Payload.model_validate(record["payload"]))
    return found
