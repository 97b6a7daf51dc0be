"""How much a file of pipelines may hold, counted before anything is made of it."""

from typing import Any, Final

__all__ = ["check_size"]

MOST_VALUES: Final = 10_000
"""Values in a file, with its aliases written out."""

DEEPEST_VALUES: Final = 100
"""Levels of values within values: steps, and what is in their parameters."""


def check_size(value: Any) -> None:
    """Raises ValueError where a file's content has too many values once aliases are expanded, is nested too deep, or
    contains itself.

    Aliases make a file of a few lines as large as one likes, and the work that is done for it with that.
    """
    waiting, count = [(value, 1)], 0
    while waiting:
        (item, level), count = waiting.pop(), count + 1
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values, with its aliases written out")
        if level > DEEPEST_VALUES:
            raise ValueError(f"its values are nested more than {DEEPEST_VALUES} levels deep")
        within = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting += ((each, level + 1) for each in within)
