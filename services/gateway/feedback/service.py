"""Makes one record of all that a reader says of an answer."""

from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import Counter

from services.gateway.feedback.models import NewFeedback
from services.gateway.http.problems import invalid_member
from sluice.api.feedback import Feedback, KeptAnswer, SourceJudgement

__all__ = ["count_rating", "merged"]

RATINGS = Counter(
    "sluice_gateway_ratings_total",
    "Ratings that readers gave, by the variant of each stage that the answer went through.",
    ("stage", "variant", "rating"),
)

TEXTS: Final = ("rating", "correction", "comment", "copied")


def merged(before: Feedback | None, new: NewFeedback, kept: KeptAnswer, reader: str) -> Feedback:
    """The feedback with what is new. Raises Problem INVALID_REQUEST for a source that the answer does not have."""
    _check_sources(new, len(kept.sources))
    now = datetime.now(UTC)
    if before is None:
        before = Feedback(answer=kept.id, reader=reader, created_at=now, kept=kept)
    update: dict[str, Any] = {name: said for name in TEXTS if (said := getattr(new, name)) is not None}
    if new.tags is not None:
        update["tags"] = tuple(dict.fromkeys(new.tags))
    judged: dict[int, bool | None] = {one.index: one.relevant for one in before.sources}
    judged |= {one.index: one.relevant for one in new.sources}
    update["sources"] = tuple(
        SourceJudgement(index=index, relevant=relevant)
        for index, relevant in sorted(judged.items())
        if relevant is not None
    )
    update["opened"] = tuple(sorted({*before.opened, *new.opened}))
    return before.model_copy(update={**update, "changed_at": now})


def count_rating(before: Feedback | None, after: Feedback) -> None:
    """Count a rating that is new, for each stage and variant that has worked on the answer."""
    if after.rating and (before is None or before.rating != after.rating):
        for stage, variant in {(hop.stage, hop.variant) for hop in after.kept.timings.stages}:
            RATINGS.labels(stage, variant, after.rating).inc()


def _check_sources(new: NewFeedback, sources: int) -> None:
    for name, indexes in (("sources", [one.index for one in new.sources]), ("opened", new.opened)):
        for place, index in enumerate(indexes):
            if index > sources:
                raise invalid_member(f"{name}[{place}]", f"the answer has {sources} sources, and no {index}")
