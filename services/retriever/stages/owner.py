"""Whose index a query may touch: that of its own tenant and of the collection that it names."""

from shared.contracts.collections import Owner
from shared.contracts.envelope import Query

__all__ = ["owner_of"]


def owner_of(query: Query) -> Owner:
    """A query of an earlier version names no collection; then any of the tenant's will do."""
    return Owner(tenant=query.tenant, collection=query.collection_id)
