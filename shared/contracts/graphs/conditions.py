"""The conditions of a graph: expressions over what is known of a query.

question, folded      the question; the same in lower case with single blanks
metadata              the metadata of the request
tenant, lane, collection
passages              those found so far: document, score, similarity, coverage, metadata
best                  the score of the best passage, 0 without any
notes                 what stages have noted
outputs               of the last model that answered: each tensor's elements, by its name
failed                of the last fallback: stage, problem; empty where none was needed
branches              of the ensembles so far, by the branch's name: failed, best, passages, outputs, notes
"""

from functools import lru_cache
from typing import Any, Final

from pydantic import JsonValue

from shared.contracts.envelope import Passage, Query
from shared.contracts.pipelines.expressions import Expression, ExpressionError, parse
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import BranchResult
from shared.contracts.tensors import Datatype, InferenceOutcome, Tensor, unpack_bytes, unpack_numbers

__all__ = ["FAILED", "NAMES", "best_score", "check_condition", "elements_of", "holds", "outputs_of", "value_of"]

FAILED: Final = "failed"
"""A note that conditions know by this name too."""

NAMES: Final = (
    "question",
    "folded",
    "metadata",
    "tenant",
    "lane",
    "collection",
    "passages",
    "best",
    "notes",
    "outputs",
    FAILED,
    "branches",
)

MOST_ELEMENTS: Final = 1000
"""Elements of a tensor that a condition sees."""


def holds(condition: str, query: Query) -> bool:
    """Raises Problem STAGE_FAILED for a condition that cannot be evaluated, such as one on a note that is not there."""
    value = value_of(condition, query)
    if not isinstance(value, bool):
        raise _unusable(condition, "it is neither true nor false")
    return value


def value_of(expression: str, query: Query) -> Any:
    """Raises Problem STAGE_FAILED for an expression that cannot be evaluated."""
    try:
        return _parsed(expression).evaluate(_Scope(query))
    except ExpressionError as error:
        raise _unusable(expression, str(error)) from None


def _unusable(condition: str, why: str) -> Problem:
    detail = f"The condition `{condition[:200]}` of the pipeline cannot be evaluated: {why}."
    return Problem(ProblemType.STAGE_FAILED, detail)


def check_condition(condition: str) -> None:
    """Raises ExpressionError for what is no expression, or names what no condition knows."""
    for first, *_ in parse(condition).references:
        if first not in NAMES:
            raise ExpressionError(f"there is no `{first}`; known here: {', '.join(NAMES)}")


@lru_cache(maxsize=1024)
def _parsed(condition: str) -> Expression:
    return parse(condition)


class _Scope(dict[str, Any]):
    """The names of a query, each worked out when it is read."""

    def __init__(self, query: Query) -> None:
        super().__init__()
        self._query = query

    def __missing__(self, name: str) -> Any:
        if name not in NAMES:
            raise KeyError(name)
        value = self[name] = _value(name, self._query)
        return value


def _value(name: str, query: Query) -> Any:
    match name:
        case "folded":
            return " ".join(query.question.lower().split())
        case "lane":
            return query.lane.value
        case "passages":
            return [_described(passage) for passage in query.passages]
        case "best":
            return best_score(query.passages)
        case "outputs":
            return outputs_of(query.results.inference if query.results else None)
        case "failed":
            return query.notes.get(FAILED) or {}
        case "branches":
            ended = query.results.branches if query.results else {}
            return {name: _ended(branch) for name, branch in ended.items()}
    return getattr(query, name)


def _described(passage: Passage) -> dict[str, JsonValue]:
    return {
        "document": passage.document,
        "score": passage.score,
        "similarity": passage.similarity,
        "coverage": passage.coverage,
        "metadata": dict(passage.metadata),
    }


def _ended(branch: BranchResult) -> dict[str, JsonValue]:
    return {
        "failed": branch.failed,
        "best": branch.best,
        "passages": branch.passages,
        "outputs": outputs_of(branch.inference),
        "notes": branch.notes,
    }


def best_score(passages: tuple[Passage, ...]) -> float:
    return max((passage.score for passage in passages), default=0.0)


def outputs_of(inference: InferenceOutcome | None) -> dict[str, JsonValue]:
    """The tensors of a model's answer, by name."""
    response = inference.response if inference else None
    return {tensor.name: elements_of(tensor) for tensor in response.outputs} if response else {}


def elements_of(tensor: Tensor) -> list[JsonValue]:
    """The first elements, one after another; none of a type that JSON has no numbers for."""
    if tensor.datatype is Datatype.BYTES:
        try:
            texts = [element.decode("utf-8", "replace") for element in unpack_bytes(tensor.data)]
        except ValueError:
            return []
        return list(texts[:MOST_ELEMENTS])
    data = tensor.data[: MOST_ELEMENTS * max(1, tensor.datatype.size)]
    if tensor.datatype is Datatype.BOOL:
        return [bool(byte) for byte in data]
    if tensor.datatype is Datatype.BF16:
        return []
    whole = len(data) - len(data) % tensor.datatype.size
    return unpack_numbers(data[:whole], tensor.datatype)
