"""Documents as a caller sees them."""

from services.gateway.auth.principal import Principal
from shared.contracts.collections import Collection
from shared.contracts.documents import Document
from shared.contracts.problems import Problem, ProblemType
from shared.stores.documents import Documents

__all__ = ["checked_id", "seen_document"]


async def seen_document(documents: Documents, principal: Principal, collection: Collection, document: str) -> Document:
    """A document that the caller may see. Raises Problem NOT_FOUND, be it that there is none."""
    found = await documents.get(collection.table, checked_id(document), owner=collection.owner)
    if found is None or not principal.sees_document(found):
        detail = f"There is no document '{document}' in the collection '{collection.name}'."
        raise Problem(ProblemType.NOT_FOUND, detail)
    return found


def checked_id(document: str) -> str:
    """The id. Raises Problem NOT_FOUND for what cannot be one."""
    if len(document) == 32 and all(c in "0123456789abcdef" for c in document):
        return document
    raise Problem(ProblemType.NOT_FOUND, f"'{document[:80]}' is not a document id: those have 32 hexadecimal digits.")
