"""One search of a table: by meaning and by words to the same depth, and one ranking of both.

Qdrant finds the nearest passages and those that hold the words best, and compares the vectors of all of them with the
question's. It fuses nothing: the ranker does, as for every store.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, models

from services.retriever.ranking.lexical import absent_identifiers, weigh_terms
from services.retriever.ranking.ranker import Candidate, RankOptions, rank
from services.retriever.stores.base import Hits, Vector, unit
from services.retriever.stores.hits import hits_of
from services.retriever.stores.limits import DEPTH, MOST_TERMS
from services.retriever.stores.qdrant.connection import Connection
from services.retriever.stores.qdrant.layout import DENSE, DOCUMENT_ID, POSITION, SECTION, TERMS, WORDS
from services.retriever.stores.qdrant.points import HIT_PAYLOAD, key_of, sparse
from services.retriever.stores.qdrant.statistics import ViewStatistics
from services.retriever.stores.qdrant.view import View
from shared.analysis.terms import question_terms
from shared.contracts.retrieval import SearchMode
from shared.tasks import task_group

__all__ = ["TableSearch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSearch:
    """Searches the passages of a view that meet `condition`."""

    connection: Connection
    collection: str
    view: View
    condition: models.Condition | None
    statistics: ViewStatistics

    async def run(self, text: str, vector: Vector | None, *, top_k: int, options: RankOptions) -> Hits:
        """The vector is None for a search by words alone."""
        asked = None if vector is None else unit(vector)
        depth = max(DEPTH, top_k)
        languages = await self.statistics.languages(self.connection, self.collection, self.view)
        terms = question_terms(text, languages)[:MOST_TERMS] if options.mode is not SearchMode.VECTOR else []
        forms = [form for term in terms for form in term.forms]
        vectors = asked is not None and bool(options.diversity)
        async with task_group() as group:
            counting = group.create_task(self.statistics.of(self.connection, self.collection, self.view, forms))
            finding = group.create_task(self._find(asked, forms, depth, vectors=vectors))
        # The server may find the same points in another order, and sums of floats depend on it.
        statistics, points = counting.result(), sorted(finding.result(), key=lambda point: str(point.id))
        rows = {key_of(point.payload or {}): point.payload or {} for point in points}
        weighted = weigh_terms(terms, statistics) if forms else []
        ranked = rank(
            [_candidate(point, asked) for point in points],
            weighted,
            statistics.average_length,
            options=options,
            top_k=top_k,
        )
        return Hits(hits_of(ranked, rows, section=SECTION), absent=absent_identifiers(weighted))

    async def _find(
        self, asked: NDArray[np.float32] | None, forms: Sequence[str], depth: int, *, vectors: bool
    ) -> list[models.ScoredPoint]:
        """The candidates, each once. The scores are cosines where there is a vector."""
        where = self.view.filter(*([] if self.condition is None else [self.condition]))
        words = sparse(forms)
        # How rare a word is, is a question of what this reader may see of this table.
        rarity = models.SearchParams(idf=models.IdfCorpusParams(corpus=self.view.filter()))
        # Nothing is near to a vector of length 0.
        near = None if asked is None or not asked.any() else asked.tolist()
        fields = [DENSE] if vectors else False
        if near is None and not forms:
            return []

        def find(client: AsyncQdrantClient) -> Awaitable[models.QueryResponse]:
            if near is None:
                return client.query_points(
                    self.collection,
                    query=words,
                    using=WORDS,
                    query_filter=where,
                    search_params=rarity,
                    limit=depth,
                    with_payload=HIT_PAYLOAD,
                    with_vectors=fields,
                )
            by_meaning = models.Prefetch(query=near, using=DENSE, filter=where, limit=depth)
            by_words = models.Prefetch(query=words, using=WORDS, filter=where, params=rarity, limit=depth)
            return client.query_points(
                self.collection,
                prefetch=[by_meaning, by_words] if forms else [by_meaning],
                query=near,
                using=DENSE,
                limit=2 * depth,
                with_payload=HIT_PAYLOAD,
                with_vectors=fields,
            )

        return (await self.connection.call(find)).points


def _candidate(point: models.ScoredPoint, asked: NDArray[np.float32] | None) -> Candidate:
    row = point.payload or {}
    own: NDArray[np.float32] | None = None
    if isinstance(point.vector, dict) and DENSE in point.vector:
        own = unit(np.asarray(point.vector[DENSE], dtype=np.float32))
    similarity = None if asked is None else (point.score if asked.any() else 0.0)
    return Candidate(
        key=key_of(row),
        document_id=row[DOCUMENT_ID],
        position=int(row[POSITION]),
        terms=row[TERMS],
        similarity=similarity,
        vector=own,
    )
