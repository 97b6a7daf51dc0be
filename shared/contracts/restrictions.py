"""Which jobs are there for a reader: what a job has looked at may be in its errors, its outputs and its files."""

from collections.abc import Collection as Texts
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from shared.contracts.collections import Collection
from shared.contracts.jobs import Job
from shared.contracts.principals import ALL, covers

__all__ = ["Restrictions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """The names of a tenant's collections: those with documents that not everybody may see, and the others."""

    restricted: frozenset[str]
    open: frozenset[str]

    @classmethod
    def of(cls, collections: Iterable[Collection]) -> Self:
        records = list(collections)
        return cls(
            restricted=frozenset(record.name for record in records if record.restricted),
            open=frozenset(record.name for record in records if not record.restricted),
        )

    def show(self, job: Job, principals: Texts[str]) -> bool:
        """Whether a job is there for who looks at documents with these principals.

        In a tenant with restricted documents a job may have looked at some, unless its collection has none. Then it is
        there for those who see everything that its submitter sees.
        """
        if not self.restricted or job.collection in self.open:
            return True
        return covers(principals, (ALL,) if job.options.principals is None else job.options.principals)
