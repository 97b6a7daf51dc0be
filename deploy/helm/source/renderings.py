"""What kustomize makes of deploy/k8s, as objects by kind and name."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

__all__ = ["K8S", "Key", "Objects", "kustomize", "plain_names"]

K8S: Final = Path(__file__).parents[2] / "k8s"
KUBECTL: Final = Path(sys.executable).parent / "kubectl"
HASHED: Final = re.compile(r"^(sluice-settings|nats-config)-[a-z0-9]{10}$")

Key = tuple[str, str, str]
Objects = dict[Key, dict[str, Any]]
"""Each object under its kind, namespace and name."""


@cache
def kustomize(*components: str, resource: str = "base") -> Objects:
    """A folder of deploy/k8s with these components, in this order. ConfigMaps have names without a hash.

    Raises CalledProcessError if it cannot be rendered.
    """
    with TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(K8S / resource, place)],
            "components": [os.path.relpath(K8S / "components" / name, place) for name in components],
        }
        (place / "kustomization.yaml").write_text(json.dumps(kustomization))
        command = [str(KUBECTL), "kustomize", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    objects = [plain_names(thing) for thing in yaml.safe_load_all(done.stdout) if thing]
    return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}


def plain_names(value: Any) -> Any:
    """The same, with the names of ConfigMaps as they are without the hash of their content."""
    if isinstance(value, dict):
        return {key: plain_names(member) for key, member in value.items()}
    if isinstance(value, list):
        return [plain_names(item) for item in value]
    if isinstance(value, str) and (found := HASHED.match(value)):
        return found[1]
    return value
