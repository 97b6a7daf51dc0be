"""What the kinds of jobs put out: the names that later steps may read.

Kinds that are not here put out what they like.
"""

from collections.abc import Mapping
from typing import Final

from shared.pipelines.types import Kind

__all__ = ["OUTPUTS"]

_NUMBER, _TEXT = Kind.NUMBER, Kind.TEXT

OUTPUTS: Final[Mapping[str, Mapping[str, Kind]]] = {
    "evaluate": {
        "recall_at_1": _NUMBER,
        "recall_at_5": _NUMBER,
        "mrr": _NUMBER,
        "ndcg_at_10": _NUMBER,
        "answer_f1": Kind.ANY,
        "latency_p50_ms": _NUMBER,
        "questions": _NUMBER,
    },
    "reindex": {"version": _TEXT, "documents": _NUMBER, "chunks": _NUMBER},
}
