"""Near-copies: texts that say the same in almost the same words."""

from collections.abc import Set as AbstractSet
from typing import Final

__all__ = ["SAME", "are_copies"]

SAME: Final = 0.9
"""The share of their terms that copies have in common (Jaccard)."""


def are_copies(one: AbstractSet[str], other: AbstractSet[str]) -> bool:
    """Whether two texts with these terms are taken for copies: the sets overlap by SAME, and no term with a digit is in
    one of them alone. Entries of a catalogue that differ in a number alone are different things."""
    if min(len(one), len(other)) < SAME * max(len(one), len(other)):
        return False
    different = one ^ other
    if len(different) > (1 - SAME) * len(one | other):
        return False
    return not any(character.isdecimal() for term in different for character in term)
