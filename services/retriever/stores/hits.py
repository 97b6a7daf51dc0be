"""Hits from the rows that a store has found."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from services.retriever.ranking.ranker import Placed, Ranked
from services.retriever.stores.base import Copy, Hit

__all__ = ["COPY_COLUMNS", "HIT_COLUMNS", "hit_of", "hits_of"]

HIT_COLUMNS: Final = ["document_id", "document", "version", "revision", "position", "text", "metadata"]
"""What every store's rows have of a passage. The metadata is JSON."""

COPY_COLUMNS: Final = ["document_id", "document", "position"]
"""What a hit says of its copies."""


def hit_of(
    row: Mapping[str, Any],
    key: str,
    placed: Placed | Ranked,
    *,
    similarity: float | None,
    section: int | None,
    copies: Iterable[Mapping[str, Any]],
) -> Hit:
    """The hit for a row that has the columns HIT_COLUMNS; its copies have COPY_COLUMNS."""
    columns = {name: row[name] for name in HIT_COLUMNS}
    columns |= {"position": int(row["position"]), "metadata": json.loads(row["metadata"])}
    return Hit(
        **columns,
        id=key,
        section=section,
        score=placed.score,
        similarity=similarity,
        coverage=placed.coverage,
        vector_rank=placed.vector_rank,
        text_rank=placed.text_rank,
        copies=[
            Copy(document_id=copy["document_id"], document=copy["document"], position=int(copy["position"]))
            for copy in copies
        ],
    )


def hits_of(ranked: Iterable[Ranked], rows: Mapping[str, Mapping[str, Any]], *, section: str) -> Iterator[Hit]:
    """The hits for candidates, whose rows are found by their keys. `section` is the column of a passage's section."""
    for one in ranked:
        found = one.candidate
        yield hit_of(
            rows[found.key],
            found.key,
            one,
            similarity=found.similarity,
            section=rows[found.key].get(section),
            copies=(rows[copy.key] for copy in one.copies),
        )
