"""From objects with conditions to the text of a Helm template."""

import json
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final

import yaml

from deploy.helm.source.trees import ABSENT, Block, Choice, Inline, Lines, Tree

__all__ = ["HEAD", "document", "scalar"]

HEAD: Final = "{{- /* Written by `python -m deploy.helm.source` from deploy/k8s: change it there. */ -}}\n"

FIRST: Final = (
    "apiVersion", "kind", "metadata", "name", "namespace", "replicas", "labels", "annotations", "image",
    "imagePullPolicy", "command", "args", "mountPath", "path", "key", "host",
)  # fmt: skip
"""Keys that stand before the others, which keep their order."""

Writer = Callable[[Tree], list[str]]


def document(trees: list[Tree]) -> str:
    """The text of one template with these objects."""
    return HEAD + "\n".join(line for tree in trees for line in _object(tree)) + "\n"


def _object(tree: Tree) -> list[str]:
    return _choice(tree, _object, 0) if isinstance(tree, Choice) else ["---", *_mapping(tree, 0)]


def _mapping(tree: Tree, depth: int) -> list[str]:
    keys = sorted(tree, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))

    def write(member: tuple[Any, Tree]) -> list[str]:
        key, value = member
        return _raw(key, depth) if isinstance(key, Lines) else _member(key, value, depth)

    return _grouped([(key, tree[key]) for key in keys], write, depth)


def _sequence(items: list[Tree], depth: int) -> list[str]:
    def write(member: tuple[Any, Tree]) -> list[str]:
        _, item = member
        return _raw(item, depth) if isinstance(item, Lines) else _item(item, depth)

    return _grouped([("", item) for item in items], write, depth)


def _grouped(members: list[tuple[Any, Tree]], write: Callable[[tuple[Any, Tree]], list[str]], depth: int) -> list[str]:
    """The lines of all members: neighbours under one condition share an `if`."""
    lines: list[str] = []
    pad = " " * depth
    for condition, group in groupby(members, key=lambda member: _only_if(member[1])):
        if condition:
            inner = [line for key, value in group for line in write((key, value.then))]
            lines += [f"{pad}{{{{- if {condition} }}}}", *inner, f"{pad}{{{{- end }}}}"]
        else:
            lines += [line for member in group for line in write(member)]
    return lines


def _only_if(value: Tree) -> str:
    """The condition of what is there or not; of anything else nothing."""
    simple = isinstance(value, Choice) and value.then is not ABSENT and value.otherwise is ABSENT
    return value.condition if simple else ""


def _member(key: str, value: Tree, depth: int) -> list[str]:
    start = " " * depth + f"{key}:"
    match value:
        case Choice():
            return _choice(value, lambda chosen: _member(key, chosen, depth), depth)
        case Block(expression):
            return [start, " " * (depth + 2) + f"{{{{- toYaml {expression} | nindent {depth + 2} }}}}"]
        case dict() if value:
            return [start, *_mapping(value, depth + 2)]
        case list() if value:
            return [start, *_sequence(value, depth + 2)]
        case int() if key == "defaultMode":
            return [f"{start} 0{value:o}"]
        case _:
            text = scalar(value)
            return _literal(start, text, depth) if "\n" in text else [f"{start} {text}"]


def _item(item: Tree, depth: int) -> list[str]:
    if isinstance(item, Choice):
        return _choice(item, lambda chosen: _item(chosen, depth), depth)
    if not isinstance(item, dict):
        text = scalar(item)
        return _literal(" " * depth + "-", text, depth) if "\n" in text else [" " * depth + f"- {text}"]
    # The dash stands before a key that is always there.
    sure = {key: value for key, value in item.items() if not isinstance(key, Lines) and not isinstance(value, Choice)}
    first = min(sure, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
    rest = _mapping({key: value for key, value in item.items() if key != first}, depth + 2)
    own = _member(first, item[first], depth + 2)
    return [" " * depth + "- " + own[0].lstrip(), *own[1:], *rest]


def _choice(choice: Choice, write: Writer, depth: int) -> list[str]:
    pad = " " * depth
    lines: list[str] = []
    for condition, tree in _branches(choice):
        word = "else if" if lines else "if"
        lines += [f"{pad}{{{{- {word} {condition} }}}}" if condition else f"{pad}{{{{- else }}}}", *write(tree)]
    return [*lines, f"{pad}{{{{- end }}}}"]


def _branches(choice: Choice) -> Iterator[tuple[str, Tree]]:
    """Conditions with what they lead to; an empty condition is that of all the rest."""
    rest: Tree = choice
    while isinstance(rest, Choice) and rest.then is not ABSENT:
        yield rest.condition, rest.then
        rest = rest.otherwise
    excluded: list[str] = []
    while isinstance(rest, Choice) and rest.then is ABSENT:
        excluded.append(rest.condition)
        rest = rest.otherwise
    if excluded:
        yield _none_of(excluded), rest
    elif rest is not ABSENT:
        yield "", rest


def _none_of(conditions: list[str]) -> str:
    terms = [condition if condition.startswith(".") else f"({condition})" for condition in conditions]
    return f"not {terms[0]}" if len(terms) == 1 else f"not (or {' '.join(terms)})"


def _raw(raw: Lines, depth: int) -> list[str]:
    return [" " * depth + line.replace("INDENT", str(depth)) for line in raw.lines]


def _literal(start: str, text: str, depth: int) -> list[str]:
    """Text of several lines as it is."""
    mark = "|" if text.endswith("\n") else "|-"
    return [f"{start} {mark}", *(" " * (depth + 2) + line if line else "" for line in text.splitlines())]


def scalar(value: Tree) -> str:
    """A scalar as YAML on one line, or text of several lines as it is. Braces that Helm would read are quoted."""
    if isinstance(value, Inline):
        return value.text
    if isinstance(value, str) and "\n" in value:
        text = value
    else:
        text = yaml.safe_dump(value, width=2**20, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
        text = json.dumps(value, ensure_ascii=False) if text.startswith("'") else text
    return text.replace("{{", '{{ "{{" }}')
