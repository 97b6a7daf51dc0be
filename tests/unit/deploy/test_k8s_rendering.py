"""What kustomize makes of deploy/k8s is valid for Kubernetes and KEDA, and points only at what exists.

Nothing here runs on a cluster: objects are rendered by the real kubectl and checked against the published schemas.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from shared.nats.subjects import StageQueue
from tests.harness.manifests import COMPOSITIONS, K8S, SERVICES, Manifests, compose, render
from tests.harness.manifests import rendering as of_name
from tests.harness.paths import ROOT

OVERLAYS = sorted(f"overlays/{path.name}" for path in (K8S / "overlays").iterdir())
EACH_COMPONENT = sorted(
    path.parent.relative_to(K8S / "components").as_posix()
    for path in (K8S / "components").rglob("kustomization.yaml")
    if path.parent.name != "workload"
)
NEEDED = {
    **dict.fromkeys(("gpu-mig", "gpu-time-slicing", "gpu-dra", "gpu-hami"), ("gpu",)),
    "backup-s3": ("index-s3", "backup"),
    "spot-gpu": ("gpu", "spot"),
    "predictor-gpu": ("predictor",),
    "predictor-s3": ("predictor",),
    "predictor-keda": ("predictor", "keda"),
}
"""Components that go before one."""
COMPOSED = {name for names in COMPOSITIONS.values() for name in names}
ALONE = [name for name in EACH_COMPONENT if name not in COMPOSED]
RENDERINGS = ["base", *OVERLAYS, *COMPOSITIONS, *ALONE, "restore"]
VERSIONS = ("1.31", "1.37")
"""The oldest Kubernetes that is supported, and the newest that the schemas are published for."""
LATER = {"resource.k8s.io/v1": "1.34"}
"""Versions of the API that the oldest Kubernetes does not have, with the first that does: see docs/kubernetes.md."""
CRDS = [yaml.safe_load(path.read_text()) for path in sorted((Path(__file__).parent / "crds").iterdir())]
CUSTOM = {(crd["apiVersion"], crd["kind"]) for crd in CRDS} | {("keda.sh/v1alpha1", "ScaledObject")}
"""Kinds of operators, each checked against what its operator takes."""


def rendering(name: str) -> Manifests:
    return compose(*NEEDED.get(name, ()), name) if name in ALONE else of_name(name)


def everything() -> list[dict[str, Any]]:
    """Each object of any rendering once."""
    found = {json.dumps(thing, sort_keys=True): thing for name in RENDERINGS for thing in rendering(name).objects}
    return list(found.values())


def test_the_overlays_are_the_ones_in_the_documentation() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    for folder in [*(K8S / "overlays").iterdir(), *(K8S / "components").iterdir()]:
        assert f"`{folder.name}`" in page, f"docs/kubernetes.md does not know {folder.name}"


@pytest.mark.parametrize("component", EACH_COMPONENT)
def test_each_component_renders_by_itself(component: str) -> None:
    assert compose(*NEEDED.get(component, ()), component).workloads


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    for thing in everything():
        if (thing["apiVersion"], thing["kind"]) in CUSTOM or LATER.get(thing["apiVersion"], version) > version:
            continue
        kubernetes_validate.validate(thing, version, strict=True)


@pytest.mark.parametrize("crd", CRDS, ids=lambda crd: crd["kind"])
def test_every_custom_object_is_what_its_operator_takes(crd: dict[str, Any]) -> None:
    found = [thing for thing in everything() if thing["kind"] == crd["kind"]]
    assert found
    for thing in found:
        assert thing["apiVersion"] == crd["apiVersion"]
        assert set(thing) == {"apiVersion", "kind", "metadata", "spec"}
        Draft202012Validator(crd["spec"]).validate(thing["spec"])


def test_every_scaled_object_is_what_keda_takes() -> None:
    schema = yaml.safe_load((Path(__file__).parent / "keda-scaledobject.yaml").read_text())
    scaled = [thing for thing in everything() if thing["kind"] == "ScaledObject"]
    assert {thing["metadata"]["name"] for thing in scaled} == {"embedder", "retriever", "generator", "predictor"}
    for thing in scaled:
        assert thing["apiVersion"] == "keda.sh/v1alpha1"
        Draft202012Validator(schema).validate(thing["spec"])


def test_keda_watches_every_queue_of_each_stage() -> None:
    stages = {
        "embedder": ["embed", "rerank"],
        "retriever": ["retrieve", "index"],
        "generator": ["generate", "condense", "expand"],
    }
    manifests = render("overlays/keda")
    for service, names in stages.items():
        spec = manifests.get("ScaledObject", service)["spec"]
        assert spec["minReplicaCount"] == 0
        watched = set()
        for trigger in spec["triggers"]:
            metadata = trigger["metadata"]
            assert trigger["type"] == "metrics-api"
            assert set(metadata) == {"url", "valueLocation", "targetValue"}
            assert _is_port(manifests, metadata["url"], "metrics")
            assert all(isinstance(value, str) for value in metadata.values())
            watched.add(metadata["valueLocation"].replace(".", "_"))
        queues = {
            StageQueue(stage=stage, variant="default", lane=lane).consumer for stage in names for lane in _lanes(stage)
        }
        assert watched == queues


def _is_port(manifests: Manifests, url: str, name: str) -> bool:
    """Whether an address is that port of a Service, which leads to the port of this name of its Pods."""
    parts = urlsplit(url)
    service, namespace, _ = str(parts.hostname).split(".")
    ports = manifests.get("Service", service, namespace)["spec"]["ports"]
    return any((port["port"], port["targetPort"]) == (parts.port, name) for port in ports)


def _lanes(stage: str) -> tuple[Any, ...]:
    from shared.contracts.envelope import Lane

    return (Lane.BATCH,) if stage == "index" else tuple(Lane)


@pytest.mark.parametrize("name", RENDERINGS)
def test_everything_that_is_named_exists_or_is_documented(name: str) -> None:
    manifests = rendering(name)
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    for workload in manifests.workloads:
        pod = workload["spec"]["template"]["spec"]
        namespace = workload["metadata"]["namespace"]
        manifests.get("ServiceAccount", pod["serviceAccountName"], namespace)
        for kind, wanted in _references(pod):
            if kind == "Secret":
                pattern = wanted.replace(manifests.service_of(workload), "<service>")
                assert wanted in page or pattern in page, f"nobody is told how to make the Secret {wanted}"
            else:
                manifests.get(kind, wanted, namespace)


def _references(pod: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for volume in pod.get("volumes", []):
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if "configMap" in source:
                found.append(("ConfigMap", source["configMap"]["name"]))
            if "secret" in source:
                found.append(("Secret", source["secret"].get("secretName") or source["secret"]["name"]))
            if "persistentVolumeClaim" in source:
                found.append(("PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]))
    for container in pod["containers"]:
        found += [("ConfigMap", source["configMapRef"]["name"]) for source in container.get("envFrom", [])]
        for entry in container.get("env", []):
            if "secretKeyRef" in entry.get("valueFrom", {}):
                found.append(("Secret", entry["valueFrom"]["secretKeyRef"]["name"]))
    return found


@pytest.mark.parametrize("name", RENDERINGS)
def test_every_mount_has_its_volume_and_every_volume_its_mount(name: str) -> None:
    for workload in rendering(name).workloads:
        pod = workload["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = sorted([volume["name"] for volume in pod.get("volumes", [])] + claims)
        mounts = [mount for container in pod["containers"] for mount in container.get("volumeMounts", [])]
        assert sorted(mount["name"] for mount in mounts) == volumes
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)


@pytest.mark.parametrize("name", RENDERINGS)
def test_services_and_budgets_choose_the_pods_that_they_mean(name: str) -> None:
    manifests = rendering(name)
    pods = {w["metadata"]["name"]: w["spec"]["template"]["metadata"]["labels"] for w in manifests.workloads}
    for workload in manifests.workloads:
        own = workload["spec"]["selector"]["matchLabels"]
        chosen = [pod for pod, labels in pods.items() if own.items() <= labels.items()]
        assert chosen == [workload["metadata"]["name"]], "two workloads would take each other's Pods for their own"
    for service in manifests.of("Service"):
        workload = next(w for w in manifests.workloads if w["metadata"]["name"] == manifests.service_of(service))
        assert service["spec"]["selector"].items() <= pods[workload["metadata"]["name"]].items()
        containers = workload["spec"]["template"]["spec"]["containers"]
        named = {port["name"]: port["containerPort"] for c in containers for port in c["ports"]}
        assert all(port["targetPort"] in named for port in service["spec"]["ports"])


def test_images_have_the_version_of_the_project_and_no_moving_tag() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in RENDERINGS:
        for workload, _, container in rendering(name).containers():
            image, _, tag = container["image"].partition(":")
            assert re.fullmatch(r"\d+\.\d+\.\d+(-[a-z-]+)?", tag), f"{workload} has the moving tag {tag!r}"
            if image not in ("nats", "natsio/prometheus-nats-exporter"):
                assert image == f"sluice/{container['name']}"
                assert tag.split("-")[0] == version


def test_an_image_can_be_named_otherwise_in_one_place() -> None:
    uses = [container["image"] for _, _, container in render("overlays/gpu").containers()]
    assert len(uses) == len(set(uses)) == len(SERVICES) + 1
