"""Trials: questions asked of the real stages under one setting."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.scheduler.clients.search import search_stops
from services.scheduler.evaluation.evaluate import ALL_ALIKE, LATER
from services.scheduler.evaluation.questions import Judged, Question, judge
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.tuning.search import Setting
from shared.contracts.collections import CollectionVersion, Owner
from shared.contracts.envelope import Passage, Query, Stop, Vector
from shared.contracts.problems import Problem
from shared.contracts.retrieval import SearchMode
from shared.runtime.requester import Requester
from shared.tasks import task_group

__all__ = ["DEPTH", "Asked", "TrialRunner"]

DEPTH: Final = 10
"""Passages that are judged."""

RERANK_SECONDS: Final = 100.0
"""For the candidates of one question: enough for all of them, so that a trial has the same result each time."""

RERANKED_AT_ONCE: Final = 2
"""Questions: more would only share the time of one model."""

PROBE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The results of questions, in their order, and for how many the reranker has left candidates unscored."""

    judged: Sequence[Judged]
    unscored: int = 0


class TrialRunner:
    """One per try of a job. Each question is embedded once by each variant of the stage `embed`."""

    def __init__(
        self,
        stages: Requester,
        indexer: Indexer,
        *,
        owner: Owner,
        concurrency: int,
        principals: tuple[str, ...] = (),
    ) -> None:
        self._stages = stages
        self._indexer = indexer
        self._owner = owner
        self._concurrency = concurrency
        self._principals = principals
        self._vectors: dict[tuple[str, str, str], Vector | None] = {}

    async def run(self, setting: Setting, version: CollectionVersion, questions: Sequence[Question]) -> Asked:
        """Ask questions. What one of them meets is in its result; raised is what every question would meet, and what
        says nothing of the question."""
        room = asyncio.Semaphore(
            min(self._concurrency, RERANKED_AT_ONCE if setting.rerank_candidates else self._concurrency)
        )
        unscored = 0

        async def judged(question: Question) -> Judged:
            nonlocal unscored
            try:
                found = await self._search(setting, version, question.question)
            except Problem as problem:
                if problem.kind in ALL_ALIKE or problem.kind in LATER:
                    raise
                return judge(question, error=str(problem))
            finally:
                room.release()
            unscored += _has_unscored(found)
            return judge(question, [passage.document for passage in found.passages])

        async with task_group() as tasks:
            asked = []
            for question in questions:
                await room.acquire()
                asked.append(tasks.create_task(judged(question)))
        return Asked(judged=[one.result() for one in asked], unscored=unscored)

    async def has_reranker(self, version: CollectionVersion) -> bool:
        """Whether the stage `rerank` answers."""
        passage = Passage(id="0", document_id="0", document="", position=0, text="Is it there?")
        try:
            await self._stages.ask(
                Stop(stage="rerank", params=version.rerank_params),
                tenant=self._owner.tenant,
                collection=version.table,
                collection_id=self._owner.collection,
                question="Is it there?",
                passages=(passage,),
                seconds=PROBE_SECONDS,
            )
        except Problem:
            return False
        return True

    async def _search(self, setting: Setting, version: CollectionVersion, question: str) -> Query:
        by_words = setting.retrieval.mode is SearchMode.TEXT
        return await self._stages.ask(
            *search_stops(
                setting.retrieval,
                top_k=DEPTH,
                rerank_candidates=setting.rerank_candidates,
                rerank_params={"budget": RERANK_SECONDS, **version.rerank_params},
            ),
            tenant=self._owner.tenant,
            collection=version.table,
            collection_id=self._owner.collection,
            principals=self._principals,
            question=question,
            embedding=None if by_words else await self._vector(version, question),
        )

    async def _vector(self, version: CollectionVersion, question: str) -> Vector | None:
        stop = self._indexer.embed_stop(version)
        known = stop.variant, version.embedding_model, question
        if known not in self._vectors:
            made = await self._stages.ask(
                stop,
                tenant=self._owner.tenant,
                collection=version.table,
                collection_id=self._owner.collection,
                question=question,
            )
            self._vectors[known] = made.embedding
        return self._vectors[known]


def _has_unscored(found: Query) -> bool:
    note = found.notes.get("rerank")
    return isinstance(note, dict) and note.get("scored") != note.get("candidates")
