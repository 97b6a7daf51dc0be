"""Which jobs are there for a reader: what a job has looked at may be in its errors, its outputs and its files."""

from collections.abc import Collection as Texts
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from shared.contracts.principals import ALL, covers

__all__ = ["Restrictions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """The names of a tenant's collections: those with documents that not everybody may see, and the others."""

    restricted: frozenset[str]
    open: frozenset[str]

    @classmethod
    def of(cls, collections: Mapping[str, bool]) -> Self:
        """By their names, whether each has such documents."""
        return cls(
            restricted=frozenset(name for name, restricted in collections.items() if restricted),
            open=frozenset(name for name, restricted in collections.items() if not restricted),
        )

    def show_work(self, collection: str, looked_as: Texts[str] | None, principals: Texts[str]) -> bool:
        """Whether a job that looks at documents as `looked_as` is there for who does with these principals.

        In a tenant with restricted documents a job may have looked at some, unless its collection has none. Then it is
        there for those who see everything that its submitter sees.
        """
        if not self.restricted or collection in self.open:
            return True
        return covers(principals, (ALL,) if looked_as is None else looked_as)
