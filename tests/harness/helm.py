"""The chart, as the real Helm renders it without a cluster."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.tools import HELM
from tests.harness.manifests import Manifests
from tests.harness.paths import DEPLOY

__all__ = ["CHART", "VALUES", "helm", "normalised", "refused", "template"]

CHART: Final = DEPLOY / "helm" / "sluice"
VALUES: Final = DEPLOY / "helm" / "values"

ADDED: Final = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
)
"""Labels that every object of a chart has, by Helm's conventions."""


@cache
def template(*values: str, files: tuple[str, ...] = (), namespace: str = "sluice") -> Manifests:
    """The chart's objects with these values, `path=value` each as JSON or text, and files of deploy/helm/values."""
    done = _template(values, files, namespace)
    assert done.returncode == 0, done.stderr
    return Manifests([thing for thing in yaml.load_all(done.stdout, yaml.CSafeLoader) if thing])


def refused(*values: str, files: tuple[str, ...] = ()) -> str:
    """What Helm says to values that it refuses."""
    done = _template(values, files, "sluice")
    assert done.returncode != 0, f"{values} are accepted"
    return done.stderr


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60, check=False)


def _template(values: Sequence[str], files: Sequence[str], namespace: str) -> subprocess.CompletedProcess[str]:
    chosen = [argument for name in files for argument in ("--values", VALUES / name)]
    chosen += [argument for value in values for argument in ("--set-json", value)]
    return helm("template", "sluice", CHART, "--namespace", namespace, "--kube-version", "1.31.9", *chosen)


def normalised(thing: Any) -> Any:
    """An object without what only one of kustomize and Helm adds, and with named items in the order of their names."""
    if isinstance(thing, list):
        items = [normalised(item) for item in thing]
        named = all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items)
        return sorted(items, key=lambda item: str(item["name"])) if named else items
    if not isinstance(thing, dict):
        return thing
    found = {key: normalised(value) for key, value in thing.items() if not _is_added(key)}
    return {key: value for key, value in found.items() if value or key not in ("annotations", "labels")}


def _is_added(key: str) -> bool:
    return key in ADDED or key.startswith("checksum/") or key == "helm.sh/resource-policy"
