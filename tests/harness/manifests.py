"""What kustomize makes of deploy/k8s, as objects: by the real `kubectl kustomize`, which needs no cluster for it."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from tests.cluster.tools import AVAILABLE, KUBECTL, OLDEST_KUBECTL
from tests.harness.paths import DEPLOY

__all__ = ["COMPOSITIONS", "EXPLICIT", "K8S", "SERVICES", "Manifests", "compose", "rendering", "render"]

K8S: Final = DEPLOY / "k8s"
SERVICES: Final = ("gateway", "embedder", "retriever", "generator", "scheduler")
EXPLICIT: Final = ("Deployment", "StatefulSet")
COMPOSITIONS: Final = {
    "all components": (
        "predictor", "predictor-gpu", "quota", "gpu", "gpu-mig", "keda", "predictor-keda", "index-s3", "outside",
        "tracing", "priorities", "ingress", "cert-manager", "podmonitor", "prometheusrule", "external-secrets",
    ),
    "other components": (
        "canary/embedder", "canary/retriever", "canary/generator", "predictor", "predictor-gpu", "gpu", "gpu-dra",
        "index-rwx", "priorities", "gateway-api", "cert-manager", "cert-manager-nats", "podmonitor",
    ),
    "few replicas": ("predictor", "predictor-gpu", "requests", "gpu", "gpu-hami", "keda", "index-rwo"),
    "shared GPUs": ("predictor", "predictor-gpu", "gpu", "gpu-time-slicing", "index-rwo"),
}  # fmt: skip
"""Components that go together, so that each rule is checked over many of them at once."""

Object = dict[str, Any]


class Manifests:
    """The objects of one rendering."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.objects = tuple(objects)

    def of(self, *kinds: str) -> list[Object]:
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def get(self, kind: str, name: str, namespace: str | None = "sluice") -> Object:
        found = [
            thing
            for thing in self.of(kind)
            if thing["metadata"]["name"] == name and thing["metadata"].get("namespace") == namespace
        ]
        assert len(found) == 1, f"{len(found)} objects {kind}/{name} in {namespace}"
        return found[0]

    @property
    def workloads(self) -> list[Object]:
        """What makes Pods."""
        return self.of(*EXPLICIT)

    def deployment(self, name: str) -> Object:
        return self.get("Deployment", name)

    def service_of(self, workload: Object) -> str:
        """Which service a workload runs: a canary runs that of its name's first part."""
        return str(workload["metadata"]["labels"]["app.kubernetes.io/name"])

    def settings(self, workload: Object) -> dict[str, str]:
        """The environment of a workload's one container, as far as its values are in the manifests."""
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        values: dict[str, str] = {}
        for source in container.get("envFrom", []):
            values |= self.get("ConfigMap", source["configMapRef"]["name"])["data"]
        return values | {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}

    def containers(self) -> Iterator[tuple[str, Object, Object]]:
        """Each container with the name and the Pod's spec of its workload."""
        for workload in self.workloads:
            spec = workload["spec"]["template"]["spec"]
            for container in (*spec.get("initContainers", []), *spec["containers"]):
                yield workload["metadata"]["name"], spec, container


@cache
def render(overlay: str) -> Manifests:
    """A folder of deploy/k8s, such as `overlays/gpu`."""
    return _kustomize(K8S / overlay)


@cache
def compose(*components: str) -> Manifests:
    """The base with these components, in this order: what an overlay of one's own would be."""
    with TemporaryDirectory() as folder:
        place = Path(folder).resolve()

        def below(path: Path) -> str:
            return os.path.relpath(path.resolve(), place)

        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [below(K8S / "base")],
            "components": [below(K8S / "components" / name) for name in components],
        }
        (place / "kustomization.yaml").write_text(json.dumps(kustomization))
        return _kustomize(place)


def rendering(name: str) -> Manifests:
    """A composition of that name, or else a folder of deploy/k8s."""
    return compose(*COMPOSITIONS[name]) if name in COMPOSITIONS else render(name)


def _kustomize(folder: Path) -> Manifests:
    """The objects, the same from the oldest supported kubectl and the newest."""
    newest = _render_with(KUBECTL, folder)
    if AVAILABLE:
        assert OLDEST_KUBECTL.exists(), "run `python -m tests.cluster.tools`, or `make unit`"
        assert _render_with(OLDEST_KUBECTL, folder) == newest, f"{folder} renders differently with the oldest kubectl"
    return Manifests([thing for thing in yaml.load_all(newest, yaml.CSafeLoader) if thing])


def _render_with(kubectl: Path, folder: Path) -> str:
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{kubectl}: {done.stderr}"
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return done.stdout
