"""The chart renders what kustomize renders, object by object, for every option that stands for a component."""

from typing import Any

import kubernetes_validate
import pytest

from deploy.helm.source.chart import CHART, files
from deploy.helm.source.renderings import plain_names
from deploy.helm.source.writer import HEAD
from tests.cluster.tools import AVAILABLE
from tests.harness.helm import normalised, template
from tests.harness.manifests import Manifests, compose, render

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="no binary of Helm for this machine")

ONE_RETRIEVER = ("retriever.autoscaling.minReplicas=1", "retriever.autoscaling.maxReplicas=1")
SHARED = ('index.storage="rwx"', 'index.storageClassName="shared"')
STAGES = ("embedder", "retriever", "generator")
CANARIES = tuple(f"canary.{stage}.enabled=true" for stage in STAGES)
CANARY_COMPONENTS = tuple(f"canary/{stage}" for stage in STAGES)
SWITCHES = {
    "predictor": "predictor.enabled",
    "keda": "keda.enabled",
    "gpu": "gpu.enabled",
    "outside": "outside.enabled",
    "tracing": "tracing.enabled",
    "priorities": "priorities.enabled",
    "nats-exporter": "nats.exporter.enabled",
    "cert-manager-nats": "nats.certManager.enabled",
    "ingress": "ingress.enabled",
    "gateway-api": "gatewayApi.enabled",
    "cert-manager": "certManager.enabled",
    "podmonitor": "podMonitor.enabled",
    "prometheusrule": "prometheusRule.enabled",
    "external-secrets": "externalSecrets.enabled",
    "spot": "spot.enabled",
    "backup": "backup.enabled",
}
"""The value that switches each component on."""

CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "base": ((), (), ()),
    **{component: ((f"{value}=true",), (), (component,)) for component, value in SWITCHES.items()},
    "predictor-gpu": (("predictor.enabled=true", "gpu.predictor.enabled=true"), (), ("predictor", "predictor-gpu")),
    "predictor-keda": (("predictor.enabled=true", "keda.enabled=true"), (), ("predictor", "keda", "predictor-keda")),
    "index-s3": (('index.storage="s3"',), (), ("index-s3",)),
    "index-qdrant": (('index.storage="qdrant"',), (), ("index-qdrant",)),
    "index-rwx": (SHARED, (), ("index-rwx",)),
    "index-rwo": (ONE_RETRIEVER, (), ("index-rwo",)),
    "keda and one retriever": (("keda.enabled=true", *ONE_RETRIEVER), (), ("keda", "index-rwo")),
    "requests": ((), ("requests.yaml",), ("requests",)),
    "quota": (("quota.enabled=true",), ("requests.yaml",), ("quota",)),
    "gpu-mig": ((), ("gpu-mig.yaml",), ("gpu", "gpu-mig")),
    "gpu-time-slicing": ((), ("gpu-time-slicing.yaml",), ("gpu", "gpu-time-slicing")),
    "gpu-dra": ((), ("gpu-dra.yaml",), ("gpu", "gpu-dra")),
    "gpu-hami": ((), ("gpu-hami.yaml",), ("gpu", "gpu-hami")),
    "canaries": (CANARIES, (), CANARY_COMPONENTS),
    "canaries in a bucket": ((*CANARIES, 'index.storage="s3"'), (), (*CANARY_COMPONENTS, "index-s3")),
    "one canary": (("canary.generator.enabled=true",), (), ("canary/generator",)),
    "canaries on GPUs": ((*CANARIES,), ("gpu-dra.yaml",), (*CANARY_COMPONENTS, "gpu", "gpu-dra")),
    "spot-gpu": (("gpu.enabled=true", "spot.enabled=true"), (), ("gpu", "spot", "spot-gpu")),
    "backup-s3": (
        ("backup.enabled=true", 'backup.storage="s3"', 'index.storage="s3"'),
        (),
        ("index-s3", "backup", "backup-s3"),
    ),
    "everything": (
        (*(f"{value}=true" for value in SWITCHES.values()), *CANARIES, 'index.storage="s3"'),
        (),
        (*CANARY_COMPONENTS, *SWITCHES, "predictor-keda", "spot-gpu", "index-s3"),
    ),
}
"""Values, files of values, and the components of kustomize that they stand for."""

Object = dict[str, Any]
Key = tuple[str, str, str]


def by_key(manifests: Manifests) -> dict[Key, Object]:
    objects = [normalised(plain_names(thing)) for thing in manifests.objects]
    return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}


def check_equal(chart: Manifests, kustomize: Manifests) -> None:
    found, wanted = by_key(chart), by_key(kustomize)
    assert set(found) == set(wanted)
    for key, thing in wanted.items():
        assert found[key] == thing, key


@pytest.mark.parametrize("name", CASES)
def test_the_chart_is_what_kustomize_makes(name: str) -> None:
    values, chosen, components = CASES[name]
    check_equal(template("createNamespace=true", *values, files=chosen), compose(*components))


def test_the_values_for_one_node_are_what_the_overlay_is() -> None:
    check_equal(template("createNamespace=true", files=("local.yaml",)), render("overlays/local"))


def test_by_default_only_the_namespace_of_the_release_is_left_to_helm() -> None:
    left_out = set(by_key(compose())) - set(by_key(template()))
    assert left_out == {("Namespace", "", "sluice")}


def test_templates_and_values_are_what_their_program_writes() -> None:
    written = files()
    for path, text in written.items():
        assert (CHART / path).read_text() == text, f"{path}: run python -m deploy.helm.source"
    for template_file in (CHART / "templates").rglob("*.yaml"):
        if template_file.read_text().startswith(HEAD):
            assert str(template_file.relative_to(CHART)) in written, (
                f"{template_file}: run python -m deploy.helm.source"
            )


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize(
    "name",
    [
        *("base", "canaries", "gpu", "index-qdrant", "index-s3", "nats-exporter", "priorities", "quota", "spot"),
        *("backup", "backup-s3"),
    ],
)
def test_objects_of_the_chart_are_valid(name: str, version: str) -> None:
    values, chosen, _ = CASES[name]
    for thing in template(*values, files=chosen).objects:
        kubernetes_validate.validate(thing, version, strict=True)
