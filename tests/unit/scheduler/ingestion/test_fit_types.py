"""What a document says of itself never keeps it out of a collection."""

from services.scheduler.ingestion.fit_types import ReadyDocument, fit_types
from shared.contracts.documents import Document
from shared.contracts.envelope import Passage, Scalar
from shared.contracts.problems import Problem, ProblemDetails, ProblemType


def ready(given: dict[str, Scalar], found: dict[str, Scalar]) -> ReadyDocument:
    record = Document(
        id="a", name="a", sha256="x", bytes=1, chunks=1, metadata=given, indexed_at=1, revision=1, job="j"
    )
    passage = Passage(id="a:0", document_id="a", document="a", position=0, text="x", metadata={**found, **given})
    return ReadyDocument(record=record, passages=(passage,))


def refused(field: str, expected: str) -> ProblemDetails:
    return Problem(ProblemType.INVALID_METADATA, "No.", field=field, expected=expected).details


def test_a_number_becomes_text_where_the_collection_holds_text():
    fitted = fit_types(ready({"kind": "plan"}, {"page": 3, "title": "T"}), refused("page", "string"))
    assert fitted is not None
    assert fitted.passages[0].metadata == {"page": "3", "title": "T", "kind": "plan"}
    assert fitted.record.warnings == ()


def test_what_can_be_no_number_is_left_out_and_said():
    fitted = fit_types(ready({}, {"title": "T"}), refused("title", "number"))
    assert fitted is not None
    assert fitted.passages[0].metadata == {}
    assert [warning.kind for warning in fitted.record.warnings] == ["skipped-part"]


def test_what_the_sender_has_set_is_never_changed():
    assert fit_types(ready({"page": 3}, {}), refused("page", "string")) is None
    assert fit_types(ready({}, {"page": 3}), refused("other", "string")) is None
    assert fit_types(ready({}, {"page": 3}), Problem(ProblemType.CONFLICT, "No.").details) is None
