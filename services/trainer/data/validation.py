"""The part of the training rows that judges on the way. It shares no document and no question with the rest."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["Split", "split_rows"]

LEAST: Final = 8
MOST: Final = 2_000
"""Rows for validation: with fewer of them chance decides, more only take time."""


class Grouped(Protocol):
    @property
    def question(self) -> str: ...

    @property
    def documents(self) -> tuple[str, ...]: ...


RowType = TypeVar("RowType", bound=Grouped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Generic[RowType]):
    """`validation` is empty where the rows do not fall into parts without a common document."""

    train: list[RowType]
    validation: list[RowType]


def split_rows(rows: Sequence[RowType], share: float, seed: int) -> Split[RowType]:
    """Set about `share` of the rows aside. The same rows and seed give the same parts, in whatever order rows come.

    Rows with a document or the question in common stay together.
    """
    wanted = min(round(len(rows) * share), MOST)
    groups = sorted(_groups(rows), key=lambda group: _order(rows, group, seed))
    chosen: set[int] = set()
    for group in groups:
        # A large group would take much of what there is to train on.
        if len(chosen) + len(group) <= wanted * 1.2:
            chosen.update(group)
        if len(chosen) >= wanted:
            break
    if len(chosen) < LEAST:
        chosen = set()
    return Split(
        train=[row for index, row in enumerate(rows) if index not in chosen],
        validation=[row for index, row in enumerate(rows) if index in chosen],
    )


def _groups(rows: Sequence[RowType]) -> Iterable[list[int]]:
    """The rows' indices by what ties them together (union-find)."""
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, row in enumerate(rows):
        for key in (("question", row.question), *(("document", name) for name in row.documents)):
            parent[root(index)] = root(first.setdefault(key, index))
    groups: dict[int, list[int]] = {}
    for index in range(len(rows)):
        groups.setdefault(root(index), []).append(index)
    return groups.values()


def _order(rows: Sequence[RowType], group: list[int], seed: int) -> str:
    name = min(rows[index].question for index in group)
    return hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest()
