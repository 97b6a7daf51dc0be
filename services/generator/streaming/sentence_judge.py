"""A model of the repository judges sentences, by the stage `predict`: the generator has no such model of its own."""

import logging

from shared.contracts.envelope import Lane, Query
from shared.contracts.graphs.conditions import outputs_of
from shared.contracts.inference import Call
from shared.contracts.moderation import Moderation
from shared.contracts.problems import Problem
from shared.runtime.requester import Requester

__all__ = ["SentenceJudge"]

log = logging.getLogger(__name__)


class SentenceJudge:
    """Asks in the lane of the query, for its tenant."""

    def __init__(self, requesters: dict[Lane, Requester]) -> None:
        self._requesters = requesters

    async def __call__(self, query: Query, moderation: Moderation, sentence: str) -> bool:
        """Whether the sentence may be sent. A model that does not answer, or not as it should, says no unless the
        moderation is lenient."""
        call = Call(model=moderation.model, texts={moderation.input: "question"})
        try:
            answered = await self._requesters[query.lane].ask(
                call.stop(), tenant=query.tenant, question=sentence, seconds=moderation.seconds
            )
        except Problem as problem:
            log.warning("the moderation by model %s failed: %s", moderation.model, problem, extra={"query": query.id})
            return moderation.lenient
        outputs = outputs_of(answered.results.inference if answered.results else None)
        found = outputs.get(moderation.output)
        if not isinstance(found, list) or not found:
            log.warning("model %s has no output %s", moderation.model, moderation.output, extra={"query": query.id})
            return moderation.lenient
        return not any(_stops(moderation, element) for element in found)


def _stops(moderation: Moderation, element: object) -> bool:
    if isinstance(element, int | float) and moderation.above is not None:
        return element > moderation.above
    return str(element) in moderation.stops
