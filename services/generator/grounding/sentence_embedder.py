"""Vectors of sentences, from the stage `embed`: the generator has no embedding model of its own."""

from collections.abc import Sequence

from shared.contracts.envelope import Lane, Passage, Query, Stop, unpack_vector
from shared.runtime.requester import Requester

__all__ = ["SentenceEmbedder"]

STAGE = "embed"


class SentenceEmbedder:
    """Asks in the lane of the query, and the variant that embedded its question."""

    def __init__(self, requesters: dict[Lane, Requester]) -> None:
        self._requesters = requesters

    async def __call__(self, query: Query, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """A vector for each text, in their order. Raises the stage's Problem, or STAGE_UNAVAILABLE."""
        variant = next((hop.variant for hop in reversed(query.trail) if hop.stage == STAGE), "default")
        passages = tuple(
            Passage(id=str(number), document_id="", document="", position=number, text=text)
            for number, text in enumerate(texts)
        )
        made = await self._requesters[query.lane].ask(
            Stop(stage=STAGE, variant=variant, params={"target": "passages"}), tenant=query.tenant, passages=passages
        )
        return [unpack_vector(passage.vector or b"") for passage in made.passages]
