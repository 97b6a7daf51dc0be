"""What stages hand on beside an embedding and passages."""

from pydantic import JsonValue

from shared.contracts.problems import ProblemDetails
from shared.contracts.tensors import InferenceOutcome
from shared.contracts.wire import Wire

__all__ = [
    "BranchResult",
    "Expansion",
    "IndexOutcome",
    "IndexSummary",
    "Payload",
    "Response",
    "Results",
    "SearchOutcome",
    "Searched",
]


class Payload(Wire):
    """A JSON text: itself, or the artifact that holds it where it is too large for a message."""

    text: str = ""
    artifact: str | None = None


class Response(Wire):
    """An HTTP status and the JSON body under it, with the trace id under which the gateways' logs say more."""

    status: int
    request_id: str = ""
    body: Payload = Payload()


class IndexSummary(Wire):
    """How many documents there are, and a digest of their ids with their revisions."""

    documents: int
    digest: str


class IndexOutcome(Wire):
    """The documents that the stage `index` did not write, by id; those whose lists it has taken note of; where it
    was asked what is there, the summary; and whether the table is `absent`, so that no removal was noted."""

    superseded: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    refused: dict[str, ProblemDetails] = {}
    summary: IndexSummary | None = None
    absent: bool = False


class Expansion(Wire):
    """What is searched for beside the question: the same one in other words, and a passage that may answer it."""

    paraphrases: tuple[str, ...] = ()
    passage: str = ""


class Searched(Expansion):
    """What was searched for, where it is not the question alone as it was asked."""

    question: str = ""


class SearchOutcome(Wire):
    """`absent` are the identifiers that the question names and no passage of the collection has."""

    absent: tuple[str, ...] = ()


class BranchResult(Wire):
    """How a branch of an ensemble ended: how many passages it brought and their best score, what its model answered and
    what its stages noted; or, where it has `failed`, the stage, its variant and the code of the
    problem."""

    failed: dict[str, JsonValue] = {}
    passages: int = 0
    best: float = 0.0
    inference: InferenceOutcome | None = None
    notes: dict[str, JsonValue] = {}


class Results(Wire):
    """The results of the stages `expand`, `retrieve`, `index`, `request` and `predict`, and of branches by name."""

    expansion: Expansion | None = None
    search: SearchOutcome | None = None
    index: IndexOutcome | None = None
    response: Response | None = None
    inference: InferenceOutcome | None = None
    branches: dict[str, BranchResult] = {}
