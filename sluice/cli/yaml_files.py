"""YAML files of jobs: read with the place of every member, so that what is wrong can be pointed at."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

__all__ = ["YamlFile", "YamlFileError", "read_documents", "read_scalar", "read_yaml"]

T = TypeVar("T")

Place = tuple[str | int, ...]

MOST_DOCUMENTS = 1000
MOST_VALUES = 100_000
DEEPEST = 100
"""Bounds of a file with its aliases written out: a few lines of them can stand for billions of values."""

WRONG_SCALARS = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)
"""What PyYAML raises for a scalar that is not what its tag says, such as `!!int x`."""


class YamlFileError(Exception):
    """A file that cannot be read; the message begins with `file:line:column`."""


class _Loader(yaml.SafeLoader):
    """Texts stay texts: JSON has no dates, and `on`, `yes` and `no` are words."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tTfF"))


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlFile:
    """A JSON-like value and where in the file its members are."""

    name: str
    value: Any
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def at(self, path: str) -> str:
        """`file:line:column` of what a path such as `spec.steps.evaluate.when` has in the file; empty for nothing."""
        line, column = self.position(path)
        return f"{self.name}:{line}:{column}" if line else ""

    def position(self, path: str) -> tuple[int, int]:
        """Line and column of what a path has in the file, from 1; zeros for nothing."""
        place: Place = ()
        for part in re.findall(r"[^.\[\]]+", path):
            for step in (part, int(part) if part.isdecimal() else part):
                if (*place, step) in self.marks:
                    place = (*place, step)
                    break
        return self.marks[place] if place else (0, 0)


def read_yaml(path: Path) -> YamlFile:
    """Raises YamlFileError for what is no YAML, or none that JSON could say."""
    value, marks = _parsed(path, _read)
    return YamlFile(name=str(path), value=value, marks=marks)


def read_documents(path: Path) -> list[YamlFile]:
    """Each document of a file that may have several. Raises as `read_yaml` does."""
    return [YamlFile(name=str(path), value=value, marks=marks) for value, marks in _parsed(path, _read_all)]


def _parsed(path: Path, read: Callable[[str, str], T]) -> T:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise YamlFileError(f"{path}: cannot be read: {reason}") from None
    try:
        return read(text, str(path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise YamlFileError(f"{path}{where}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlFileError(f"{path}: {error}") from None
    except RecursionError:
        raise YamlFileError(f"{path}: it is nested too deeply") from None


def _read_all(text: str, name: str) -> list[tuple[Any, dict[Place, tuple[int, int]]]]:
    loader = _Loader(text)
    found: list[tuple[Any, dict[Place, tuple[int, int]]]] = []
    try:
        while loader.check_node():
            if len(found) == MOST_DOCUMENTS:
                raise YamlFileError(f"{name}: more than {MOST_DOCUMENTS} documents")
            marks: dict[Place, tuple[int, int]] = {}
            node = loader.get_node()
            found.append((_value(loader, node, (), marks, name) if node is not None else None, marks))
    finally:
        loader.dispose()
    return found


def _read(text: str, name: str) -> tuple[Any, dict[Place, tuple[int, int]]]:
    """The value and where its members are. Raises YamlFileError, and what PyYAML raises for texts that are no YAML."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        marks: dict[Place, tuple[int, int]] = {}
        return _value(loader, node, (), marks, name) if node is not None else None, marks
    finally:
        loader.dispose()


def read_scalar(text: str) -> Any:
    """A value as it would be read in a file: `0.9`, `true`, `[a, b]`; what is no YAML is a text."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, RecursionError, *WRONG_SCALARS):
        return text


def _value(loader: _Loader, node: yaml.Node, at: Place, marks: dict[Place, tuple[int, int]], name: str) -> Any:
    marks.setdefault(at, (node.start_mark.line + 1, node.start_mark.column + 1))
    if len(at) > DEEPEST or len(marks) > MOST_VALUES:
        limit = f"deeper than {DEEPEST} levels" if len(at) > DEEPEST else f"more than {MOST_VALUES:,} values"
        raise YamlFileError(f"{_where(name, node)}: {limit}, with its aliases written out")
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*at, index), marks, name) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, name)
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        where = _where(name, key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlFileError(f"{where}: this cannot be the name of a member")
        key = _scalar(loader, key_node, name)
        if not isinstance(key, str | int):
            raise YamlFileError(f"{where}: {key!r} cannot be the name of a member")
        if str(key) in found:
            raise YamlFileError(f"{where}: '{key}' is here twice")
        marks[(*at, str(key))] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        found[str(key)] = _value(loader, value_node, (*at, str(key)), marks, name)
    return found


def _scalar(loader: _Loader, node: yaml.Node, name: str) -> str | int | float | bool | None:
    try:
        value = loader.construct_object(node)
    except WRONG_SCALARS:
        raise YamlFileError(f"{_where(name, node)}: this is no {node.tag.rpartition(':')[2]}") from None
    if value is None or isinstance(value, str | int | float):
        return value
    raise YamlFileError(f"{_where(name, node)}: JSON has no {node.tag.rpartition(':')[2]}")


def _where(name: str, node: yaml.Node) -> str:
    return f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
