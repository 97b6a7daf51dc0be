"""What the kinds of jobs put out: the names that later steps may read.

Kinds that are not here put out what they like. Of those here some are there only where they mean something, such as
`answer_f1` where the questions have answers: a step that reads one that is missing fails with the names that there are.
"""

from collections.abc import Mapping
from typing import Final

from shared.contracts.pipelines.types import Kind

__all__ = ["OUTPUTS"]

_NUMBER, _TEXT = Kind.NUMBER, Kind.TEXT
_VERSION = {"version": _TEXT, "documents": _NUMBER, "chunks": _NUMBER}

OUTPUTS: Final[Mapping[str, Mapping[str, Kind]]] = {
    "ingest": {
        "documents": _NUMBER,
        "indexed": _NUMBER,
        "skipped": _NUMBER,
        "deleted": _NUMBER,
        "failed": _NUMBER,
        "chunks": _NUMBER,
    },
    "reindex": {**_VERSION, "live": Kind.BOOLEAN, "previous": _TEXT},
    "switch": {**_VERSION, "live": Kind.BOOLEAN, "previous": _TEXT},
    "evaluate": {
        "recall_at_1": _NUMBER,
        "recall_at_3": _NUMBER,
        "recall_at_5": _NUMBER,
        "recall_at_10": _NUMBER,
        "mrr": _NUMBER,
        "ndcg_at_10": _NUMBER,
        "answer_f1": _NUMBER,
        "citation_precision": _NUMBER,
        "latency_p50_ms": _NUMBER,
        "latency_p95_ms": _NUMBER,
        "questions": _NUMBER,
        "failed": _NUMBER,
        "version": _TEXT,
    },
    "batch": {
        "total": _NUMBER,
        "completed": _NUMBER,
        "failed": _NUMBER,
        "output_file": _TEXT,
        "error_file": _TEXT,
    },
}
