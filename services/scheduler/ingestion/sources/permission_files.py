"""Who may see the files of a source, as files in its folders say.

    # .sluice-permissions.yaml
    - files: "salaries/**"
      allowed: [group:hr, user:alice]
    - files: "**"
      allowed: [group:staff]

Patterns are relative to the folder of the file that they are in. Of the rules of one file the first that matches
counts. The file nearest to a document goes first; where it says nothing of it, the one in the folder above does.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.contracts.principals import Allowed
from shared.contracts.problems import Problem, ProblemType

__all__ = ["LARGEST_PERMISSION_FILE", "PERMISSION_FILE", "PermissionFiles", "matches"]

PERMISSION_FILE: Final = ".sluice-permissions.yaml"

LARGEST_PERMISSION_FILE: Final = 256 * 1024
"""Bytes."""

YAML_ERRORS: Final = (yaml.YAMLError, RecursionError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What PyYAML raises for a text that is none, or for a scalar that is not what its tag says."""


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    files: Annotated[str, Field(min_length=1, max_length=512)]
    allowed: Allowed


_rules: TypeAdapter[list[_Rule]] = TypeAdapter(Annotated[list[_Rule], Field(max_length=1000)])


class PermissionFiles:
    """Those of one source. Paths are their parts, from the folder of the source."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, ...], Sequence[_Rule]] = {}

    def add(self, folder: Iterable[str], data: bytes) -> None:
        """Take in the file of a folder. Raises Problem SOURCE_REFUSED for one that says nothing certain: documents that
        it is about must not come in for everybody."""
        place = tuple(folder)
        if len(data) > LARGEST_PERMISSION_FILE:
            raise _refused(place, f"it has more than {LARGEST_PERMISSION_FILE:,} bytes")
        try:
            self._rules[place] = _rules.validate_python(yaml.safe_load(data.decode()) or [])
        except ValidationError as error:
            first = error.errors()[0]
            raise _refused(place, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except YAML_ERRORS as error:
            raise _refused(place, f"it is no YAML: {str(error)[:200]}") from None

    def allowed(self, path: Sequence[str]) -> tuple[str, ...] | None:
        """The list of a file; None where no rule is about it."""
        for depth in range(len(path) - 1, -1, -1):
            for rule in self._rules.get(tuple(path[:depth]), ()):
                if matches(path[depth:], rule.files.strip("/").split("/")):
                    return rule.allowed
        return None


def matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Glob by whole parts of a path; `**` stands for any number of them."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(matches(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and matches(path[1:], pattern[1:])


def _refused(folder: Sequence[str], what: str) -> Problem:
    name = "/".join((*folder, PERMISSION_FILE))
    return Problem(ProblemType.SOURCE_REFUSED, f"The file {name} cannot be used, so nothing was read: {what}.")
