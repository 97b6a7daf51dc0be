"""Copies and near-copies of one passage: what says the same in almost the same words.

Two passages are taken for copies where their sets of terms overlap by SAME (Jaccard) and no term with a digit is in one
of them alone: entries of a catalogue that differ in a number alone are different things.
"""

from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["CopyFolder"]

SAME: Final = 0.9


class _HasTerms(Protocol):
    @property
    def terms(self) -> str:
        """The passage's terms with a space between them."""


T = TypeVar("T", bound=_HasTerms)


class CopyFolder(Generic[T]):
    """Takes passages, best first, and keeps the first of each group of copies."""

    def __init__(self) -> None:
        self.kept: list[T] = []
        self._sets: list[frozenset[str]] = []
        self._copies: list[list[T]] = []

    def add(self, passage: T) -> bool:
        """Whether the passage is kept; a copy is remembered with the one that it repeats."""
        terms = frozenset(passage.terms.split(" "))
        for place, other in enumerate(self._sets):
            if _are_copies(terms, other):
                self._copies[place].append(passage)
                return False
        self.kept.append(passage)
        self._sets.append(terms)
        self._copies.append([])
        return True

    def copies(self, place: int) -> Sequence[T]:
        """The copies of the passage that was kept at this place, best first."""
        return self._copies[place]


def _are_copies(one: frozenset[str], other: frozenset[str]) -> bool:
    if min(len(one), len(other)) < SAME * max(len(one), len(other)):
        return False
    different = one ^ other
    if len(different) > (1 - SAME) * len(one | other):
        return False
    return not any(character.isdecimal() for term in different for character in term)
