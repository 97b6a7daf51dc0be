"""Options of retrieval that every API takes."""

from pydantic import ConfigDict

from shared.contracts.retrieval import RetrievalFields

__all__ = ["Retrieval"]


class Retrieval(RetrievalFields):
    """How passages are searched and ranked. An option that is left out is the pipeline's, else the collection's.

    `mode` is `hybrid`, `vector` or `text`; `fusion` is `scores` or `rrf`. `dense_weight` is the share of meaning in a
    fused score, 0 to 1. `diversity`, 0 to below 1, prefers passages that say something new. With `fold_copies`, copies
    of one passage count once. `context`, 0 to 8, is how many passages of the same section, on each side of one that was
    found, may be joined to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
