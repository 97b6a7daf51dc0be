"""Where a request that asks for reranking gets it in a pipeline that does not name that stage."""

from typing import Final

from pydantic import JsonValue

from shared.contracts.envelope import Stop
from shared.contracts.graphs.walk import rewritten, stages, within

__all__ = ["GENERATE", "RERANK", "RETRIEVE", "reranked", "visits"]

RETRIEVE: Final = "retrieve"
RERANK: Final = "rerank"
GENERATE: Final = "generate"


def reranked(stops: tuple[Stop, ...]) -> tuple[Stop, ...]:
    """The stops with one that reranks right after the last that retrieves, whose `top_k` it takes. As they are where
    one reranks already, or none retrieves."""
    return stops if visits(stops, RERANK) else _reranked(stops)


def _reranked(stops: tuple[Stop, ...]) -> tuple[Stop, ...]:
    """A step that retrieves on one of its ways is followed by reranking, or reranks within where it also generates."""
    last = max((i for i, stop in enumerate(stops) if visits((stop,), RETRIEVE)), default=None)
    if last is None:
        return stops
    step = stops[last]
    if step.stage != RETRIEVE and visits((step,), GENERATE):
        return (*stops[:last], within(step, _reranked), *stops[last + 1 :])
    kept: dict[str, JsonValue] = {}

    def without_top_k(steps: tuple[Stop, ...]) -> tuple[Stop, ...]:
        return tuple(_without_top_k(stop, kept) if stop.stage == RETRIEVE else stop for stop in steps)

    return (*stops[:last], *rewritten((step,), without_top_k), Stop(stage=RERANK, params=kept), *stops[last + 1 :])


def _without_top_k(stop: Stop, kept: dict[str, JsonValue]) -> Stop:
    params = dict(stop.params)
    if "top_k" in params:
        kept["top_k"] = params.pop("top_k")
    return stop.model_copy(update={"params": params})


def visits(stops: tuple[Stop, ...], stage: str) -> bool:
    """Whether a query may visit the stage."""
    return any(stop.stage == stage for stop in stages(stops))
