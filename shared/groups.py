"""Groups of bounded size."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["groups"]

T = TypeVar("T")


def groups(items: Iterable[T], size: Callable[[T], int], *, most: int, most_size: int) -> Iterator[tuple[T, ...]]:
    """The items in order, in groups of at most `most` items and `most_size` together. A larger item goes alone."""
    group: list[T] = []
    total = 0
    for item in items:
        length = size(item)
        if group and (len(group) >= most or total + length > most_size):
            yield tuple(group)
            group, total = [], 0
        group.append(item)
        total += length
    if group:
        yield tuple(group)
