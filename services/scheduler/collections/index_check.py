"""Whether the index of a collection holds the documents that its records name.

Both are written by the same jobs, first the index and then the records, and a copy of a collection is made from the
records. So where one of the two has lost something, a copy would make the loss final: that is stopped here.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from shared.contracts.collections import Owner
from shared.contracts.envelope import Stop
from shared.contracts.indexing import IndexChange, index_outcome, summary_of
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import IndexSummary
from shared.runtime.requester import Requester
from shared.stores.documents import Documents

__all__ = ["PAUSE", "Comparison", "IndexCheck"]

LOOKS: Final = 3
"""Looks in a row with the same difference that prove it: a job is between the two writes for less than that."""

MOST_LOOKS: Final = 10
PAUSE: Final = 2.0
"""Looks at a collection that changes all the time, and seconds between two looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Of one table: what its records name, and what its index holds; None where the retriever does not tell."""

    records: IndexSummary
    index: IndexSummary | None

    @property
    def agrees(self) -> bool:
        return self.index is None or self.index == self.records

    def problem(self, collection: str) -> Problem:
        assert self.index is not None
        return Problem(
            ProblemType.INDEX_DAMAGED,
            f"The records of the collection '{collection}' name {self.records.documents:,} documents, and its index "
            f"holds {self.index.documents:,}; they are not the same. Going on would make the loss final. If a job is "
            "being tried again, wait for its end. Otherwise restore the data folder from a backup, or ingest the "
            "documents again; or submit this job with `force` to go on with what the records name.",
            records=self.records.documents,
            indexed=self.index.documents,
        )


class IndexCheck:
    """One per process. `pause` is in seconds."""

    def __init__(self, stages: Requester, documents: Documents, *, pause: float = PAUSE) -> None:
        self._stages = stages
        self._documents = documents
        self._pause = pause

    async def require(self, owner: Owner, table: str, collection: str) -> None:
        """Raises Problem INDEX_DAMAGED where the two differ."""
        found = await self.compare(owner, table)
        if not found.agrees:
            raise found.problem(collection)

    async def compare(self, owner: Owner, table: str) -> Comparison:
        """What is there once it agrees, or once it has differed in the same way for a while.

        Raises the problems of the stage `index`, and nats errors.
        """
        same, before = 1, await self._look(owner, table)
        for _ in range(MOST_LOOKS):
            if before.agrees or same == LOOKS:
                break
            await asyncio.sleep(self._pause)
            now = await self._look(owner, table)
            same = same + 1 if now == before else 1
            before = now
        return before

    async def _look(self, owner: Owner, table: str) -> Comparison:
        stop = Stop(stage="index", params=IndexChange(table=table, inspect=True).as_params())
        answer = await self._stages.ask(stop, tenant=owner.tenant, collection=table, collection_id=owner.collection)
        records = await self._documents.list(table, owner=owner)
        revisions = {record.id: record.revision for record in records if record.chunks}
        return Comparison(records=summary_of(revisions), index=index_outcome(answer).summary)
