"""Graphs: slips that decide on the way which stops come next."""

from shared.contracts.graphs.nodes import GRAPH, Cache, Ensemble, Join, Keep, control_of
from shared.contracts.graphs.resolve import RefusedError, fallen_back, limit, resolved
from shared.contracts.graphs.walk import is_graph, rewritten, stages

__all__ = [
    "GRAPH",
    "Cache",
    "Ensemble",
    "Join",
    "Keep",
    "RefusedError",
    "control_of",
    "fallen_back",
    "is_graph",
    "limit",
    "resolved",
    "rewritten",
    "stages",
]
