"""Collections and their versions: one set of documents, indexed in one way or in several beside each other.

A version is one way to index a collection's documents and to search them: a table, cut into chunks and embedded in its
own way, and options of retrieval. Exactly one is live: queries use its table, and it decides what the collection's
documents are. The others are copies of it that were made on the way to it or are kept for the way back. Versions that
differ in the options of retrieval alone share one table.
"""

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import Field, JsonValue, model_validator

from shared.contracts.envelope import Name
from shared.contracts.models import OptionalModelName
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import RetrievalFields, RetrievalOptions
from shared.contracts.wire import Wire

__all__ = [
    "WRITABLE",
    "Collection",
    "CollectionVersion",
    "Owner",
    "VersionCanary",
    "VersionName",
    "VersionState",
    "readable_name",
    "table_name",
]

VersionName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$")]
"""What a version is called within its collection."""

FIRST: Final = "v1"

READABLE: Final = 31
"""Characters of a collection's name in the name of a table, which has at most 64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom a table, a record or an object belongs to: a tenant, and of its collections the one with this id.

    "" stands for what an earlier version has not written down.
    """

    tenant: str
    collection: str = ""

    def admits(self, tenant: str, collection: str) -> bool:
        """Whether what has these marks may be this owner's: none of the marks is another's."""
        return tenant in ("", self.tenant) and ("" in (collection, self.collection) or collection == self.collection)


def table_name(collection: str) -> str:
    """A new name for a table: 128 random bits, after as much of the collection's name as a table's name takes.

    No tenant can guess it or make it happen again, so a name is kept, never made twice.
    """
    return f"{collection[:READABLE]}-{secrets.token_hex(16)}"


def readable_name(table: str) -> str:
    """As much of a collection's name as the name of its table has: the first 31 characters."""
    return table.rpartition("-")[0]


class VersionState(StrEnum):
    """`building`: a job fills it. `ready`: complete when its job ended, and never live so far. `following`: on its way
    to be live, so that every job that changes the collection changes it too. `retired`: was live, and stays for a
    rollback. `leaving`: nobody can go back to it; a job removes it once no query can still use it."""

    BUILDING = "building"
    READY = "ready"
    FOLLOWING = "following"
    LIVE = "live"
    RETIRED = "retired"
    LEAVING = "leaving"


WRITABLE: Final = frozenset({VersionState.LIVE, VersionState.FOLLOWING, VersionState.BUILDING})
"""States in which documents may be written to a version's table."""


class CollectionVersion(Wire):
    """One version. Chunk sizes are in tokens, None for the scheduler's settings of the day. `retrieval` is how it is
    searched where a request says nothing else; `rerank_candidates` is how many passages the stage `rerank` then chooses
    from, 0 where it is not asked. The models are those of the tenant's in the store that embed and rerank; empty for
    those that the embedder has of its own. `adapter` is one of them for the generator's language model, empty for none.
    `release` is the release that it is with its settings of now. `documents`
    and `chunks` count what was in it when `job` had made it. `period` names the time for which it has followed the live
    version, and then been live, without a break. Times are Unix seconds."""

    name: str
    table: str
    state: VersionState
    created_at: float
    job: str = ""
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None
    embedding_variant: Name = "default"
    embedding_model: OptionalModelName = ""
    retrieval: RetrievalOptions = RetrievalOptions()
    rerank_candidates: Annotated[int, Field(ge=0, le=200)] = 0
    rerank_model: OptionalModelName = ""
    adapter: OptionalModelName = ""
    release: str = ""
    documents: int = 0
    chunks: int = 0
    retired_at: float | None = None
    period: str = ""

    @property
    def models(self) -> frozenset[str]:
        """The models of the store that it needs."""
        return frozenset({self.embedding_model, self.rerank_model, self.adapter} - {""})

    @property
    def embed_params(self) -> dict[str, JsonValue]:
        """Parameters of a stop `embed` whose vectors fit those of this version."""
        return {"model": self.embedding_model} if self.embedding_model else {}

    @property
    def rerank_params(self) -> dict[str, JsonValue]:
        """Parameters of a stop `rerank` that ranks what was found in this version."""
        return {"model": self.rerank_model} if self.rerank_model else {}

    @property
    def generate_params(self) -> dict[str, JsonValue]:
        """Parameters of a stop `generate` that answers from this version."""
        return {"adapter": self.adapter} if self.adapter else {}


class VersionCanary(Wire):
    """A version that `percent` of the conversations are answered from, to see how it does, while `job` watches it. Of
    `shadow` percent it gets copies, whose answers nobody sees.

    Gateways go by it until the Unix time `until`, which the job puts off again and again. So nobody is left with a
    version that nobody watches any more.
    """

    version: VersionName
    percent: Annotated[float, Field(ge=0, le=100)]
    shadow: Annotated[float, Field(ge=0, le=100)] = 0.0
    job: str
    until: float


class Collection(Wire):
    """`table` is where the live version's index lives; it is never reused, so a new collection of the same name starts
    empty. `id` stays the same through all versions. `embedding_variant` is the variant of the stage `embed` that
    questions need to find what is in `table`. `versions` holds them all, the live one among them, oldest first.
    `restricted` says that a document has had a list of principals. `chosen` is the version that a question asks instead
    of the live one; it is never stored. `canary` is the version that shares the questions with the live one.
    """

    name: str
    tenant: str = "default"
    id: str
    table: str
    embedding_variant: Name = "default"
    versions: Annotated[tuple[CollectionVersion, ...], Field(min_length=1)]
    description: str = ""
    pipeline: str | None = None
    restricted: bool = False
    canary: VersionCanary | None = None
    created_at: float
    chosen: Annotated[str | None, Field(exclude=True)] = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, members: Any) -> Any:
        """A collection that nobody has given versions has its first one."""
        if not isinstance(members, dict) or members.get("versions") or not {"table", "created_at"} <= members.keys():
            return members
        first = {"name": FIRST, "state": "live", "table": members["table"], "created_at": members["created_at"]}
        return {"id": members["table"], **members, "versions": [first]}

    @property
    def live(self) -> CollectionVersion:
        return next(version for version in self.versions if version.state is VersionState.LIVE)

    @property
    def owner(self) -> Owner:
        """Whom the tables of all versions belong to, with their records and originals."""
        return Owner(tenant=self.tenant, collection=self.id)

    @property
    def queried(self) -> CollectionVersion:
        """The version that queries use: the live one, but for `as_if`."""
        return self.live if self.chosen is None else self.version(self.chosen)

    @property
    def retrieval(self) -> RetrievalOptions:
        """How the version that queries use is searched."""
        return self.queried.retrieval

    @property
    def changing(self) -> tuple[CollectionVersion, ...]:
        """The versions that a change of the documents must reach: first the live one, then those that follow it."""
        following = (version for version in self.versions if version.state is VersionState.FOLLOWING)
        return (self.live, *following)

    @property
    def previous(self) -> CollectionVersion | None:
        """The version that a rollback goes to: the one that was live last."""
        retired = [version for version in self.versions if version.state is VersionState.RETIRED]
        return max(retired, key=lambda version: version.retired_at or 0.0, default=None)

    @property
    def leaving(self) -> tuple[CollectionVersion, ...]:
        return tuple(version for version in self.versions if version.state is VersionState.LEAVING)

    def find(self, name: str) -> CollectionVersion | None:
        """The version of this name."""
        return next((version for version in self.versions if version.name == name), None)

    def version(self, name: str) -> CollectionVersion:
        """The version of this name. Raises Problem NOT_FOUND."""
        if (found := self.find(name)) is None:
            known = ", ".join(version.name for version in self.versions)
            raise Problem(
                ProblemType.NOT_FOUND,
                f"The collection '{self.name}' has no version {name[:80]!r}. Its versions are: {known}.",
            )
        return found

    def as_if(self, name: str) -> Self:
        """For questions: the collection as if this version were the live one. Raises Problem NOT_FOUND, or
        VERSION_NOT_READY for one that is not whole yet or any more."""
        version = self.version(name)
        if version.state in (VersionState.BUILDING, VersionState.LEAVING):
            raise Problem(
                ProblemType.VERSION_NOT_READY,
                f"The version '{name}' of the collection '{self.name}' is {version.state}, so it cannot be asked.",
            )
        used = {"table": version.table, "embedding_variant": version.embedding_variant}
        return self.model_copy(update={**used, "chosen": name})

    def on(self, table: str) -> tuple[CollectionVersion, ...]:
        """The versions that use a table."""
        return tuple(version for version in self.versions if version.table == table)

    def free_name(self) -> str:
        """A name for the next version: v2, v3 and so on."""
        taken = {version.name for version in self.versions}
        number = len(self.versions) + 1
        while f"v{number}" in taken:
            number += 1
        return f"v{number}"

    def adding(self, version: CollectionVersion) -> Self:
        """With one version more."""
        return self.model_copy(update={"versions": (*self.versions, version)})

    def with_settings(
        self,
        *,
        description: str | None = None,
        retrieval: RetrievalFields | None = None,
        rerank_candidates: int | None = None,
        embedding_model: str | None = None,
        rerank_model: str | None = None,
        adapter: str | None = None,
        **pipeline: str | None,
    ) -> Self:
        """With these settings. Those of retrieval and the models are the live version's; a `pipeline` may become
        None."""
        settings = pipeline if description is None else {**pipeline, "description": description}
        changed = self.model_copy(update=settings)
        of_version = {
            "retrieval": None if retrieval is None else RetrievalOptions.model_validate(retrieval.as_params()),
            "rerank_candidates": rerank_candidates,
            "embedding_model": embedding_model,
            "rerank_model": rerank_model,
            "adapter": adapter,
        }
        said = {name: value for name, value in of_version.items() if value is not None}
        if any(getattr(self.live, name) != value for name, value in said.items()):
            said["release"] = ""  # it is not what was released any more
        return changed.changed(self.live.name, **said) if said else changed

    def changed(self, name: str, /, **members: object) -> Self:
        """With these members of one version changed, if it is there."""
        versions = tuple(v.model_copy(update=members) if v.name == name else v for v in self.versions)
        return self.model_copy(update={"versions": versions})

    def without(self, name: str) -> Self:
        """Without one version. The live one cannot go."""
        assert name != self.live.name
        return self.model_copy(update={"versions": tuple(v for v in self.versions if v.name != name)})

    def switched(self, name: str, *, keep: int) -> Self:
        """With this version as the live one, and no canary. Of the others, those beyond `keep` are on their way out."""
        new = self.version(name)
        old = self.changed(self.live.name, state=VersionState.RETIRED, retired_at=time.time())
        live = old.changed(name, state=VersionState.LIVE, retired_at=None)
        used = {"table": new.table, "embedding_variant": new.embedding_variant, "canary": None}
        return live.model_copy(update=used).pruned(keep)

    def pruned(self, keep: int, *, sparing: str = "") -> Self:
        """With at most `keep` versions for a rollback and as many that were never live, the latest of each, and the
        one that is spared."""
        retired = [v for v in self.versions if v.state is VersionState.RETIRED]
        unused = [v for v in self.versions if v.state is VersionState.READY and v.name != sparing]
        retired.sort(key=lambda v: v.retired_at or 0.0, reverse=True)
        unused.sort(key=lambda v: v.created_at, reverse=True)
        pruned = self
        for version in (*retired[keep:], *unused[keep:]):
            pruned = pruned.changed(version.name, state=VersionState.LEAVING)
        return pruned
