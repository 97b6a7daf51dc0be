"""What needs a model: it stays as long as anything does."""

from shared.stores.collections import Collections
from shared.stores.releases import ReleaseStore

__all__ = ["users_of"]


async def users_of(collections: Collections, releases: ReleaseStore, tenant: str) -> dict[str, list[str]]:
    """The versions and releases that need models, by the model."""
    found: dict[str, list[str]] = {}
    for collection in await collections.list(tenant):
        for version in collection.versions:
            for model in version.models:
                found.setdefault(model, []).append(f"{collection.name}/{version.name}")
    for release in await releases.list(tenant):
        for model in release.content.models:
            found.setdefault(model, []).append(release.name)
    return found
