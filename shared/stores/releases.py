"""Releases in the bucket `releases`.

Keys are `<tenant>.<release>`, `<tenant>.alias.<collection>.<alias>` for names that people give them, and
`<tenant>.import.<release>` for releases of other installations that were imported.
"""

import re
from collections.abc import Mapping
from typing import Final

from nats.js import JetStreamContext

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.releases import ALIAS, RELEASE_NAME, Release, ReleaseEvent, ReleaseImport
from shared.nats.kv import Repository
from shared.nats.subjects import RELEASES

__all__ = ["ReleaseStore"]

AT: Final = re.compile(r"([a-z0-9][a-z0-9_-]{0,47})@([a-z][a-z0-9_-]{0,31})")


class ReleaseStore:
    """The releases of all tenants. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, RELEASES, Release.model_validate_json, noun="release")
        self._aliases = Repository(jetstream, RELEASES, bytes.decode, encode=str.encode, noun="alias")
        self._imports = Repository(jetstream, RELEASES, ReleaseImport.model_validate_json, noun="import")

    async def put(self, release: Release) -> Release:
        """Write a new release. One of the same content is the same release: its first record stays, with signers that
        it did not have."""
        key = f"{release.tenant}.{release.name}"
        found, _ = await self._records.create(key, release)
        if found.signed_with(*release.signed_by) is found:
            return found
        _, after = await self._records.change(key, lambda known: known and known.signed_with(*release.signed_by))
        return after or found

    async def get(self, tenant: str, name: str) -> Release:
        """Raises Problem NOT_FOUND."""
        found = await self._records.get(f"{tenant}.{name}") if re.fullmatch(RELEASE_NAME, name) else None
        if found is None:
            raise Problem(ProblemType.NOT_FOUND, f"There is no release '{name[:80]}'.")
        return found

    async def find(self, tenant: str, given: str) -> Release:
        """A release by its name or as `<collection>@<alias>`. Raises Problem NOT_FOUND."""
        if (at := AT.fullmatch(given)) is None:
            return await self.get(tenant, given)
        name = await self._aliases.get(f"{tenant}.alias.{at[1]}.{at[2]}")
        if name is None:
            raise Problem(ProblemType.NOT_FOUND, f"No release of the collection '{at[1]}' is called '{at[2]}'.")
        return await self.get(tenant, name)

    async def list(self, tenant: str, collection: str | None = None) -> list[Release]:
        """The releases of a tenant, or of one of its collections, the newest first."""
        found = await self._records.list(f"{tenant}.*")
        wanted = [one for one in found if collection is None or one.content.collection == collection]
        return sorted(wanted, key=lambda one: (one.created_at, one.name), reverse=True)

    async def note(self, tenant: str, name: str, event: ReleaseEvent, *, unless_last: bool = False) -> Release | None:
        """Add an event; with `unless_last`, unless the last one is of the same stage. None where the release is not
        there any more."""

        def noted(known: Release | None) -> Release | None:
            if known is None or (unless_last and known.events and known.events[-1].stage is event.stage):
                return known
            return known.noting(event)

        _, after = await self._records.change(f"{tenant}.{name}", noted)
        return after

    async def delete(self, release: Release) -> None:
        """Remove a release with its aliases."""
        for alias, name in (await self.aliases(release.tenant, release.content.collection)).items():
            if name == release.name:
                await self.remove_alias(release.tenant, release.content.collection, alias)
        await self._records.purge(f"{release.tenant}.{release.name}")

    async def aliases(self, tenant: str, collection: str) -> Mapping[str, str]:
        """The releases of a collection by their aliases."""
        prefix = f"{tenant}.alias.{collection}."
        entries = [entry async for entry in self._aliases.entries(f"{prefix}*")]
        return {key.removeprefix(prefix): value.decode() for key, value in entries}

    async def set_alias(self, release: Release, alias: str) -> None:
        """Call the release so, and no other one of its collection. Raises Problem INVALID_NAME."""
        if not re.fullmatch(ALIAS, alias):
            detail = f"An alias has 1 to 32 of a-z, 0-9, '-' and '_' and begins with a letter, not {alias[:80]!r}."
            raise Problem(ProblemType.INVALID_NAME, detail)
        await self._aliases.put(f"{release.tenant}.alias.{release.content.collection}.{alias}", release.name)

    async def remove_alias(self, tenant: str, collection: str, alias: str) -> None:
        """One that is not there is no error."""
        if re.fullmatch(ALIAS, alias):
            await self._aliases.purge(f"{tenant}.alias.{collection}.{alias}")

    async def note_import(self, found: ReleaseImport) -> None:
        """Remember an import; the last one of a release counts."""
        await self._imports.put(f"{found.tenant}.import.{found.name}", found)

    async def find_import(self, tenant: str, name: str) -> ReleaseImport | None:
        """The last import of a release; None where there was none."""
        return await self._imports.get(f"{tenant}.import.{name}") if re.fullmatch(RELEASE_NAME, name) else None
