"""Named pipelines: the stages that a query passes, in order, with the parameters of each.

    pipelines:
      brief: [embed, retrieve, generate]
      canary:
        - embed
        - {stage: retrieve, params: {mode: vector, top_k: 3}}
        - {stage: generate, variant: canary}

A pipeline named `default` replaces the built-in one, which is embed, retrieve, generate; and so does `rerank`, which is
embed, retrieve, rerank, generate. Steps may also decide which stage comes next: `shared/contracts/graphs/written.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from pydantic import JsonValue

from shared.contracts.envelope import Stop
from shared.contracts.filters import guarded
from shared.contracts.graphs import rewritten, stages
from shared.contracts.graphs.reranking import GENERATE, RERANK, RETRIEVE, reranked, visits
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import NO_OPTIONS, RERANK_CANDIDATES, RetrievalFields

__all__ = ["DEFAULT", "EMBED", "GENERATE", "RERANK", "RETRIEVE", "Pipelines", "PipelinesError", "load_pipelines"]

DEFAULT: Final = "default"
EMBED: Final = "embed"
CONDENSE: Final = "condense"
SCALAR_ERRORS: Final = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)
"""What PyYAML raises for a scalar that is not what its tag says, such as the date 2026-13-45."""

BUILT_IN: Final[Mapping[str, tuple[Stop, ...]]] = {
    DEFAULT: (Stop(stage=EMBED), Stop(stage=RETRIEVE), Stop(stage=GENERATE)),
    RERANK: (Stop(stage=EMBED), Stop(stage=RETRIEVE), Stop(stage=RERANK), Stop(stage=GENERATE)),
}


class PipelinesError(ValueError):
    """The pipelines file is not valid; the message names the file and the place."""


class Pipelines:
    """The pipelines by name. `default` and `rerank` are always among them."""

    def __init__(self, named: Mapping[str, tuple[Stop, ...]] | None = None) -> None:
        self._named = {**BUILT_IN, **(named or {})}

    @property
    def named(self) -> Mapping[str, tuple[Stop, ...]]:
        return self._named

    def get(self, name: str) -> tuple[Stop, ...]:
        """Raises Problem PIPELINE_NOT_FOUND."""
        if (stops := self._named.get(name)) is None:
            known = ", ".join(sorted(self._named))
            raise Problem(
                ProblemType.PIPELINE_NOT_FOUND, f"There is no pipeline {name[:80]!r}. The pipelines are: {known}."
            )
        return stops

    def slip(
        self,
        name: str,
        *,
        top_k: int | None,
        default_top_k: int,
        request_filter: Mapping[str, JsonValue] | None,
        restricted: bool = False,
        retrieval: RetrievalFields = NO_OPTIONS,
        collection_retrieval: RetrievalFields = NO_OPTIONS,
        condense: bool = False,
        rerank: bool | None = None,
        candidates: int | None = None,
        collection_candidates: int = 0,
    ) -> tuple[Stop, ...]:
        """The slip of a query: the pipeline's stops, with the options of the request in those that retrieve.

        The request's `top_k` goes before the pipeline's, and that before the default; so do its options of `retrieval`,
        and last come the collection's. `request_filter` applies in addition to the pipeline's filter; both are guarded
        where the collection is `restricted`, so that no retriever answers which knows no lists. With `condense`,
        for a later question of a conversation, a pipeline that retrieves and generates first makes the question stand
        alone, unless it names the stage itself. With `rerank`, a pipeline that does not name that stage gets it after
        retrieval; where `rerank` is None, so does one that retrieves if `collection_candidates` is not 0. In a pipeline
        that reranks, `top_k` is what is left after that, of `candidates` that are retrieved.
        Raises Problem PIPELINE_NOT_FOUND, INVALID_REQUEST where nothing is retrieved to rerank, or INVALID_FILTER where
        no stop would apply it.
        """
        stops = self.get(name)
        retrieves = visits(stops, RETRIEVE)
        if rerank or (rerank is None and collection_candidates and retrieves):
            stops = _with_rerank(name, stops)
        if request_filter and not retrieves:
            raise Problem(
                ProblemType.INVALID_FILTER, f"The pipeline '{name}' does not retrieve, so it cannot apply a filter."
            )
        request = _RetrieveRequest(
            top_k=top_k,
            default_top_k=default_top_k,
            filter=request_filter,
            restricted=restricted,
            options=retrieval,
            collection_options=collection_retrieval,
            candidates=candidates,
            collection_candidates=collection_candidates,
        )
        slip = request.applied_to(stops)
        return (*_condense_stop(slip), *slip) if condense else slip


def _condense_stop(slip: tuple[Stop, ...]) -> tuple[Stop, ...]:
    """The stop that makes a question stand alone, none where it has no use.

    It names no variant: an adapter of the stop `generate` serves that stage alone.
    """
    named = {stop.stage for stop in stages(slip)}
    return (Stop(stage=CONDENSE),) if {GENERATE, RETRIEVE} <= named and CONDENSE not in named else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _RetrieveRequest:
    """What a request and its collection say about retrieval. With a stage that reranks, `top_k` is meant for that."""

    top_k: int | None
    default_top_k: int
    filter: Mapping[str, JsonValue] | None
    restricted: bool
    options: RetrievalFields
    collection_options: RetrievalFields
    candidates: int | None
    collection_candidates: int

    def applied_to(self, stops: tuple[Stop, ...]) -> tuple[Stop, ...]:
        reranks = visits(stops, RERANK)

        def applied(stop: Stop) -> Stop:
            if stop.stage == RETRIEVE:
                return self._retrieve(stop, self._candidates(stop) if reranks else self._top_k(stop))
            return stop.with_params(top_k=self._top_k(stop)) if stop.stage == RERANK else stop

        return rewritten(stops, lambda steps: tuple(map(applied, steps)))

    def _retrieve(self, stop: Stop, top_k: JsonValue) -> Stop:
        own: JsonValue = stop.params.get("filter")
        wanted: JsonValue = dict(self.filter) if self.filter else None
        params = self.collection_options.as_params() | stop.params | self.options.as_params()
        params["top_k"] = top_k
        both: JsonValue = {"$and": [own, wanted]} if own and wanted else own or wanted
        params["filter"] = guarded(both) if self.restricted else both
        return stop.model_copy(update={"params": params})

    def _top_k(self, stop: Stop) -> JsonValue:
        return stop.params.get("top_k", self.default_top_k) if self.top_k is None else self.top_k

    def _candidates(self, stop: Stop) -> JsonValue:
        if self.candidates is not None:
            return max(self.candidates, self.top_k or 1)
        return stop.params.get("top_k", max(self.collection_candidates or RERANK_CANDIDATES, self.top_k or 1))


def _with_rerank(name: str, stops: tuple[Stop, ...]) -> tuple[Stop, ...]:
    """The stops with one that reranks right after the last that retrieves, whose `top_k` it takes, unless one does."""
    if not (visits(stops, RERANK) or visits(stops, RETRIEVE)):
        detail = f"The pipeline '{name}' does not retrieve, so it has nothing to rerank."
        raise Problem(ProblemType.INVALID_REQUEST, detail, param="rerank")
    return reranked(stops)


def load_pipelines(path: Path | None) -> Pipelines:
    """Read a pipelines file. Raises PipelinesError with the place of each mistake."""
    if path is None:
        return Pipelines()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelinesError(f"cannot read the pipelines file {path}: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError, *SCALAR_ERRORS) as error:
        raise PipelinesError(f"the pipelines file {path} is not YAML: {error}") from error
    try:
        return Pipelines(read_pipelines(content))
    except (ValueError, RecursionError) as error:
        raise PipelinesError(f"the pipelines file {path} is not valid: {error}") from error
