"""Who may see the files of a folder, as `.sluice-permissions.yaml` in it says: as the scheduler reads it for sources.

    - files: "salaries/**"
      allowed: [group:hr, user:alice]

Patterns are relative to the folder of the file that they are in; of its rules the first that matches counts, and where
none does, those of the folder above.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["PERMISSION_FILE", "PermissionFileError", "PermissionFiles"]

PERMISSION_FILE: Final = ".sluice-permissions.yaml"

YAML_ERRORS: Final = (yaml.YAMLError, RecursionError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What PyYAML raises for a text that is none, or for a scalar that is not what its tag says."""


class PermissionFileError(Exception):
    """A file says nothing certain, and documents that it is about must not come in for everybody."""


class PermissionFiles:
    """Those of one folder and the folders in it. Each is read when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rules: dict[Path, list[tuple[Sequence[str], tuple[str, ...]]]] = {}

    def allowed(self, path: Path) -> tuple[str, ...] | None:
        """The list of a file in the folder; None where no rule is about it. Raises PermissionFileError."""
        folder = path.parent
        while folder.is_relative_to(self._root):
            for pattern, allowed in self._read(folder):
                if _matches(path.relative_to(folder).parts, pattern):
                    return allowed
            folder = folder.parent
        return None

    def _read(self, folder: Path) -> list[tuple[Sequence[str], tuple[str, ...]]]:
        if folder not in self._rules:
            file = folder / PERMISSION_FILE
            try:
                self._rules[folder] = [_rule(one) for one in _rules(file)]
            except YAML_ERRORS as error:
                raise PermissionFileError(f"{file}: {str(error)[:200]}") from None
        return self._rules[folder]


def _rules(file: Path) -> Iterable[Any]:
    """Raises OSError where the file is there and cannot be read."""
    try:
        rules = yaml.safe_load(file.read_text(encoding="utf-8")) or []
    except FileNotFoundError:
        return []
    if not isinstance(rules, list):
        raise TypeError("it is not a list of rules, each with 'files' and 'allowed'")
    return rules


def _rule(rule: Any) -> tuple[Sequence[str], tuple[str, ...]]:
    if not isinstance(rule, dict) or rule.keys() != {"files", "allowed"} or not isinstance(rule["files"], str):
        raise ValueError("a rule has a pattern 'files' and a list 'allowed', and nothing else")
    allowed = rule["allowed"]
    if not isinstance(allowed, list) or not all(isinstance(one, str) for one in allowed):
        raise ValueError("'allowed' is a list of users and groups, such as [group:hr]")
    return rule["files"].strip("/").split("/"), tuple(allowed)


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Glob by whole parts of a path; `**` stands for any number of them."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])
