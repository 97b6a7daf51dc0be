"""Which display an object has."""

from sluice.api.collections import Collection, CollectionPage
from sluice.api.documents import DocumentPage
from sluice.api.evaluations import EvaluationReport
from sluice.api.jobs import Job
from sluice.api.passages import PassagePage
from sluice.api.queries import Answer, Source, Sources
from sluice.api.status import Status
from sluice.notebook.answer import answer, passage, results
from sluice.notebook.evaluations import evaluation
from sluice.notebook.jobs import job
from sluice.notebook.markup import Markup, document
from sluice.notebook.tables import collection, objects, page, status

__all__ = ["html"]


def html(shown: object) -> str | None:
    """An object as HTML; None for one that is better read as plain text."""
    content = _content(shown)
    return None if content is None else document(content)


def _content(shown: object) -> Markup | None:
    match shown:
        case Answer():
            return answer(shown)
        case Sources():
            return results(shown)
        case Source():
            return passage(shown)
        case Job():
            return job(shown)
        case EvaluationReport():
            return evaluation(shown)
        case Collection():
            return collection(shown)
        case CollectionPage():
            return page(shown.collections, shown.next, "collections")
        case DocumentPage():
            return page(shown.documents, shown.next, "documents")
        case PassagePage():
            return page(shown.passages, None, "passages")
        case Status():
            return status(shown)
        case list():
            return objects(shown)
        case _:
            return objects((shown,))
