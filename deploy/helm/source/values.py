"""values.yaml, from a text with comments and from what kustomize renders.

A line `key: !from COMPONENT KIND/NAME PATH` of the text stands for the value at that place of the base, or of the base
with a component. The path `settings` stands for the plain settings of a workload or ConfigMap; with a component, for
those that it changes.
"""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.helm.source.renderings import kustomize
from deploy.helm.source.settings import DERIVED, FIXED

__all__ = ["SOURCE", "values_text"]

SOURCE: Final = Path(__file__).parent / "values.yaml"
HEAD: Final = "# Written by `python -m deploy.helm.source` from deploy/helm/source/values.yaml: change it there.\n"
REFERENCE: Final = re.compile(r"^( *)([\w-]+): !from ([\w-]+) (\w+)/([\w-]+) (\S+)$")


def values_text() -> str:
    """The text of values.yaml. Raises KeyError if a reference leads nowhere."""
    return HEAD + "".join(_line(line) + "\n" for line in SOURCE.read_text().splitlines())


def _line(line: str) -> str:
    found = REFERENCE.match(line)
    if found is None:
        return line
    indent, key, component, kind, name, path = found.groups()
    thing = _object(component, kind, name)
    value = _settings(thing, component, kind, name) if path == "settings" else _at(thing, path)
    text = yaml.safe_dump({key: value}, sort_keys=False, width=2**20)
    return "\n".join(indent + each for each in text.rstrip("\n").splitlines())


BEFORE: Final = {"predictor-gpu": ("predictor",)}
"""Components that go before one."""


def _object(component: str, kind: str, name: str) -> dict[str, Any]:
    objects = kustomize() if component == "base" else kustomize(*BEFORE.get(component, ()), component)
    (thing,) = (thing for (of, _, called), thing in objects.items() if (of, called) == (kind, name))
    return thing


def _settings(thing: dict[str, Any], component: str, kind: str, name: str) -> dict[str, str]:
    settings = {key: value for key, value in _plain(thing).items() if key not in (*FIXED, *DERIVED)}
    if component in ("base", "predictor"):
        return settings
    before = BEFORE.get(component, ("base",))[-1]
    base = _plain(_object(before, kind, name))
    return {key: value for key, value in settings.items() if base.get(key) != value}


def _plain(thing: dict[str, Any]) -> dict[str, str]:
    if thing["kind"] == "ConfigMap":
        return dict(thing["data"])
    entries = thing["spec"]["template"]["spec"]["containers"][0]["env"]
    return {entry["name"]: entry["value"] for entry in entries if "value" in entry}


def _at(thing: Any, path: str) -> Any:
    """The value at a path of keys, numbers and names of items, and parts of an image, with bars between."""
    for step in path.split("|"):
        if isinstance(thing, list):
            thing = thing[int(step)] if step.isdigit() else next(item for item in thing if item.get("name") == step)
        elif isinstance(thing, str):
            thing = dict(zip(("repository", "tag"), thing.split(":"), strict=True))[step]
        else:
            thing = thing[step]
    return thing
