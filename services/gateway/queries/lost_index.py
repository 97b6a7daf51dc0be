"""Tells an empty collection from one that has lost its index."""

from shared.contracts.collections import Owner
from shared.contracts.envelope import Query
from shared.contracts.problems import Problem, ProblemType
from shared.stores.documents import Documents

__all__ = ["explain_empty"]


async def explain_empty(problem: Problem, query: Query, documents: Documents) -> Problem:
    """The problem itself; INDEX_DAMAGED where it says that a collection is empty, and documents are on record that the
    reader may see."""
    if problem.kind is not ProblemType.COLLECTION_EMPTY:
        return problem
    owner = Owner(tenant=query.tenant, collection=query.collection_id)
    if not await documents.any(query.collection, owner=owner, principals=query.principals):
        return problem
    detail = (
        "The collection has documents on record, and its index holds none: it is lost, or elsewhere. Restore the index "
        "from a backup, or ingest the documents again."
    )
    return Problem(ProblemType.INDEX_DAMAGED, detail)
