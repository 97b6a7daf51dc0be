"""Finds the passages of examples in the index, by the stages that answer queries, as the submitter may see them."""

import asyncio
from collections import Counter
from collections.abc import Collection as Texts
from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import JsonValue

from services.scheduler.clients.search import search_stops
from services.scheduler.datasets.examples import Correction, Example, LeftOut, Source
from services.scheduler.datasets.negatives import DIGITS, NegativeOptions, Skipped, Terms, choose_negatives
from services.scheduler.datasets.prompt_passages import as_columns, prompt_passages
from services.scheduler.datasets.rows import Answer, Mined, Preference, Row
from services.scheduler.evaluation.evaluate import ALL_ALIKE, LATER
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.jobs.job_context import JobContext
from shared.contracts.collections import Collection
from shared.contracts.envelope import Passage, Vector
from shared.contracts.filters import guarded
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import SearchMode
from shared.runtime.requester import Requester
from shared.tasks import task_group

__all__ = ["Miner"]

OF_ONE_DOCUMENT: Final = 50
"""Passages among which one is looked for that is known by its text."""

SHALLOWEST: Final = 5
"""Passages that one message always holds."""

SAME_PASSAGE: Final = 0.6
"""Share of their terms from which a passage of today is taken for the one of then: a chunk may end elsewhere now."""

SMALLEST: Final = 0.3
"""Of the terms of the passage of then, that the one of today has at least: a heading alone is in many."""


class Miner:
    """One per try of a job. `forbidden` are the documents of the test side."""

    def __init__(
        self,
        context: JobContext,
        stages: Requester,
        indexer: Indexer,
        collection: Collection,
        *,
        options: NegativeOptions,
        forbidden: frozenset[str],
        concurrency: int,
    ) -> None:
        self._context = context
        self._stages = stages
        self._collection = collection
        self._embed = indexer.embed_stop(collection.queried)
        self._options = options
        self._forbidden = forbidden
        self._room = asyncio.Semaphore(concurrency)
        # As queries are answered, but without what changes the ranking for readers alone. A margin is one of
        # similarities, which a search by words does not have.
        retrieval = collection.queried.retrieval
        mode = SearchMode.HYBRID if retrieval.mode is SearchMode.TEXT else retrieval.mode
        self._retrieval = retrieval.model_copy(
            update={"mode": mode, "diversity": 0.0, "fold_copies": True, "context": 0}
        )

    async def mine(self, examples: Iterable[tuple[Example, str]], *, is_test: bool) -> list[Mined]:
        """What comes of each example, of which the name of the group is given. What one of them meets is in its result;
        raised is what each of them would meet, and what says nothing of an example."""
        async with task_group() as tasks:
            made = []
            for example, group in examples:
                await self._room.acquire()
                made.append(tasks.create_task(self._mined(example, group, is_test=is_test)))
        return [one.result() for one in made]

    async def _mined(self, example: Example, group: str, *, is_test: bool) -> Mined:
        nothing = Mined(question=example.question, group=group, origin=example.origin, is_test=is_test)
        try:
            return await self._found(example, nothing)
        except Problem as problem:
            if problem.kind in ALL_ALIKE or problem.kind in LATER:
                raise
            self._context.fail_item(example.question[:200], problem)
            return nothing.model_copy(update={"left_out": (LeftOut.FAILED,)})
        finally:
            self._room.release()

    async def _found(self, example: Example, nothing: Mined) -> Mined:
        search = _Search(self, example.question)
        await search.rank(self._options.range_max)
        left_out: list[LeftOut] = []
        rows: list[Row] = []
        skipped: Counter[Skipped] = Counter()
        found = await search.positives(example.sources, left_out) if example.sources else []
        kept = [one for one in found if nothing.is_test or not search.is_in(one[1], self._forbidden)]
        if len(kept) < len(found):
            left_out.append(LeftOut.COPIED)
        found = kept
        if found:
            wrong = [passage for source in example.wrong if (passage := await search.passage(source))]
            positives = {passage.text: passage for _, passage in found}
            for positive in positives.values():
                negatives, skips = choose_negatives(
                    search.ranked,
                    positive,
                    self._options,
                    relevant=set(example.documents),
                    forbidden=() if nothing.is_test else self._forbidden,
                    wrong=wrong,
                    right=list(positives),
                    terms=search.terms,
                )
                skipped += skips
                rows.append(
                    Row(
                        question=example.question,
                        positive=positive.text,
                        negatives=tuple(negatives),
                        documents=tuple(source.document for source, _ in found),
                        origin=example.origin,
                    )
                )
        preferences = await self._preferences(example, nothing, search, left_out)
        return nothing.model_copy(
            update={
                "rows": tuple(rows),
                "sources": _sources([source for source, _ in found]),
                "answer": example.answer,
                "taught": await self._taught(example, [passage for _, passage in found], nothing, search),
                "preferences": tuple(preferences),
                "left_out": tuple(left_out),
                "skipped": {reason.value: count for reason, count in skipped.items()},
            }
        )

    async def _preferences(
        self, example: Example, nothing: Mined, search: "_Search", left_out: list[LeftOut]
    ) -> list[Preference]:
        found = []
        for correction in example.corrections:
            passages = await self._context_of(correction, nothing, search)
            if not passages:
                left_out.append(LeftOut.SOURCES_GONE)
                continue
            found.append(
                Preference(
                    question=example.question,
                    context="\n\n".join(passage.text for passage in passages),
                    **as_columns(passages, correction.about),
                    chosen=correction.chosen,
                    rejected=correction.rejected,
                    documents=tuple(dict.fromkeys(passage.document for passage in passages)),
                )
            )
        return found

    async def _taught(self, example: Example, right: list[Passage], nothing: Mined, search: "_Search") -> Answer | None:
        """The answer to learn from, where there is one: from the passages that answer the question and others that the
        search finds, or else from those that the corrected answer was made from."""
        documents = [passage.document for passage in right]
        if not right and (of := next((one for one in example.corrections if one.chosen == example.answer), None)):
            right = await self._context_of(of, nothing, search)
            documents = [passage.document for passage in right if passage.document in of.about]
        if example.answer is None or not right:
            return None
        shown = prompt_passages(
            search.ranked, right, lambda one: nothing.is_test or search.is_apart(one, self._forbidden)
        )
        return Answer(
            question=example.question,
            **as_columns(shown, documents),
            answer=example.answer,
            documents=tuple(dict.fromkeys(passage.document for passage in right)),
            origin=example.origin,
        )

    async def _context_of(self, correction: Correction, nothing: Mined, search: "_Search") -> list[Passage]:
        """The passages that the answer was made from, as they are now; in the training data without those of the test
        data."""
        passages = [passage for source in correction.sources if (passage := await search.passage(source))]
        found = [one for one in passages if nothing.is_test or search.is_apart(one, self._forbidden)]
        return list({passage.id: passage for passage in found}.values())

    async def ask(
        self, question: str, vector: Vector | None, *, top_k: int, document: str | None = None
    ) -> tuple[list[Passage], Vector | None]:
        """The best passages, of the collection or of one document, and the vector of the question. Fewer where so many
        do not fit into a message."""
        wanted: JsonValue = {"document": document} if document is not None else None
        params = {"filter": guarded(wanted) if self._collection.restricted else wanted}
        while True:
            search = [stop.with_params(**params) for stop in search_stops(self._retrieval, top_k=top_k)]
            try:
                found = await self._stages.ask(
                    *(search if vector is not None else [self._embed, *search]),
                    tenant=self._context.tenant,
                    collection=self._collection.table,
                    collection_id=self._collection.id,
                    principals=self._context.principals,
                    question=question,
                    embedding=vector,
                )
            except Problem as problem:
                if problem.kind is not ProblemType.TOO_LARGE or top_k <= SHALLOWEST:
                    raise
                top_k = max(SHALLOWEST, top_k // 2)
            else:
                return list(found.passages), found.embedding


class _Search:
    """What searches have found for one question."""

    def __init__(self, miner: Miner, question: str) -> None:
        self._miner = miner
        self._question = question
        self._vector: Vector | None = None
        self.terms = Terms()
        self.ranked: Sequence[Passage] = ()

    async def rank(self, depth: int) -> None:
        found, self._vector = await self._miner.ask(self._question, None, top_k=depth)
        # The last bits of a score differ between runs, so they decide no order.
        self.ranked = sorted(found, key=lambda one: (-round(one.score, DIGITS), one.document, one.position))

    async def positives(self, sources: Sequence[Source], left_out: list[LeftOut]) -> list[tuple[Source, Passage]]:
        """The passage of each document that answers the question; why there is none, where that holds for all."""
        found: list[tuple[Source, Passage]] = []
        changed = False
        for source in sources:
            if (passage := await self.passage(source)) is not None:
                found.append((source, passage))
            elif source.passage:
                changed = changed or bool(await self._of_document(source.document, 1))
        if not found:
            left_out.append(LeftOut.CHANGED if changed else LeftOut.NOT_THERE)
        return found

    async def passage(self, source: Source) -> Passage | None:
        """The passage that is meant: the one with its text, or else the best of the document."""
        if source.passage:
            known = [passage for passage in self.ranked if passage.document == source.document]
            return self._same(source.passage, known) or self._same(
                source.passage, await self._of_document(source.document, OF_ONE_DOCUMENT)
            )
        for passage in self.ranked:
            if passage.document == source.document:
                return passage
            if source.document in (copy.document for copy in passage.copies):
                break  # its best passage may be the copy, which is not among the ranked ones
        return next(iter(await self._of_document(source.document, 1)), None)

    def is_in(self, passage: Passage, documents: Texts[str]) -> bool:
        """Whether one of these documents has the passage too, or a near-copy of it, as far as the search has met it."""
        for other in self.ranked:
            named = {other.document, *(copy.document for copy in other.copies)}
            if not named.isdisjoint(documents) and self.terms.are_copies(other.text, passage.text):
                return True
        return False

    def is_apart(self, passage: Passage, documents: Texts[str]) -> bool:
        """Whether none of these documents has the passage, nor a near-copy of it."""
        return passage.document not in documents and not self.is_in(passage, documents)

    async def _of_document(self, document: str, top_k: int) -> list[Passage]:
        found, _ = await self._miner.ask(self._question, self._vector, top_k=top_k, document=document)
        return found

    def _same(self, text: str, passages: Sequence[Passage]) -> Passage | None:
        """The passage that has the text, or the most of it."""
        terms = self.terms.of(text)

        def share(passage: Passage) -> float:
            if passage.text.startswith(text):
                return 2.0
            others = self.terms.of(passage.text)
            if SMALLEST * len(terms) > len(others):
                return 0.0
            return len(terms & others) / max(1, min(len(terms), len(others)))

        best = max(passages, key=share, default=None)
        return best if best is not None and share(best) >= SAME_PASSAGE else None


def _sources(found: Sequence[Source]) -> tuple[str, ...] | dict[str, int]:
    """The documents as `evaluate` reads them: with grades where each has one."""
    grades = {source.document: source.grade for source in found if source.grade is not None}
    return grades if found and len(grades) == len(found) else tuple(source.document for source in found)
