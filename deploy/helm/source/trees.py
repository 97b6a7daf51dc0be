"""Objects with conditions inside: what several renderings have in common, and where they differ."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

__all__ = ["ABSENT", "Absent", "Block", "Choice", "Inline", "Lines", "merge", "more"]

Tree = Any
"""A mapping, list or scalar as in YAML, or one of the nodes below at any depth."""


class Absent(Enum):
    """Nothing here: no key, no item, no object."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Choice:
    """One of two, by a condition in Helm's language."""

    condition: str
    then: Tree
    otherwise: Tree = ABSENT


@dataclass(frozen=True, slots=True)
class Inline:
    """Text with expressions of Helm, in place of a scalar."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """An expression of Helm whose value is a mapping or a list."""

    expression: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a template in place of the members of a mapping or a list, with their own actions of Helm."""

    lines: tuple[str, ...]


def more(expression: str) -> Lines:
    """Further items of a list, or members of a mapping."""
    return Lines((f"{{{{- with {expression} }}}}", "{{- toYaml . | nindent INDENT }}", "{{- end }}"))


def merge(before: Tree, after: Tree, tree: Tree, condition: str) -> Tree:
    """`tree` with what turns `before` into `after`, under a condition.

    `tree` is what earlier calls made of `before`. Where two conditions change the same place, the later call wins, as
    the later component does in kustomize.
    """
    if before == after:
        return tree
    if isinstance(tree, Choice) and tree.then is ABSENT:
        # What is removed stays removed.
        return Choice(tree.condition, ABSENT, merge(before, after, tree.otherwise, condition))
    if isinstance(before, dict) and isinstance(after, dict) and isinstance(tree, dict):
        keys = [*tree, *(key for key in after if key not in tree)]
        members = {
            key: merge(before.get(key, ABSENT), after.get(key, ABSENT), tree.get(key, ABSENT), condition)
            for key in keys
        }
        return {key: member for key, member in members.items() if member is not ABSENT}
    if isinstance(before, list) and isinstance(after, list) and isinstance(tree, list):
        return _merge_lists(before, after, tree, condition)
    return Choice(condition, after, tree)


def _merge_lists(before: list[Tree], after: list[Tree], tree: list[Tree], condition: str) -> Tree:
    """Items are the same if they have the same name; those without a name, if they have the same place."""
    if not all(_is_named(item) for item in (*before, *after)):
        if before == after[: len(before)]:
            return [*tree, *(Choice(condition, item) for item in after[len(before) :])]
        if len(before) != len(after):
            return Choice(condition, after, tree)
        return [merge(*items, condition) for items in zip(before, after, tree, strict=True)]
    old, new, own = ({_name(item): item for item in items} for items in (before, after, tree))
    names = [*own, *(name for name in new if name not in own)]
    items = [merge(old.get(n, ABSENT), new.get(n, ABSENT), own.get(n, ABSENT), condition) for n in names]
    return [item for item in items if item is not ABSENT]


def _is_named(item: Tree) -> bool:
    return isinstance(item, dict) and "name" in item


def _name(item: Tree) -> str:
    if isinstance(item, Choice):
        return _name(item.otherwise if item.then is ABSENT else item.then)
    return str(item["name"])
