"""Resources, autoscalers, GPUs and canaries in every overlay."""

import re
from typing import Any

import pytest
import yaml

from services.embedder.settings import EmbedderSettings
from services.generator.settings import GeneratorSettings
from services.retriever.settings import RetrieverSettings
from tests.harness.manifests import K8S, SERVICES, compose, render
from tests.harness.paths import ROOT

OVERLAYS = ("overlays/local", "overlays/gpu", "overlays/keda", "overlays/canary")
SCALED = ("overlays/gpu", "overlays/keda", "overlays/canary")

Object = dict[str, Any]

every_overlay = pytest.mark.parametrize("name", OVERLAYS)


# Resources and scaling


@every_overlay
def test_every_container_asks_for_what_it_needs_and_is_bounded(name: str) -> None:
    for workload, _, container in render(name).containers():
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), f"{workload} has no {kind}"


@pytest.mark.parametrize("name", SCALED)
def test_every_service_has_one_autoscaler_and_it_scales_something(name: str) -> None:
    manifests = render(name)
    targets = [h["spec"]["scaleTargetRef"]["name"] for h in manifests.of("HorizontalPodAutoscaler", "ScaledObject")]
    assert sorted(targets) == sorted(SERVICES)
    for target in targets:
        assert "replicas" not in manifests.deployment(target)["spec"], "each apply would undo the autoscaler"


def test_the_gateway_scales_on_cpu_and_stages_on_their_backlog() -> None:
    def metrics(service: str) -> list[Object]:
        return list(render("overlays/gpu").get("HorizontalPodAutoscaler", service)["spec"]["metrics"])

    assert [metric["resource"]["name"] for metric in metrics("gateway")] == ["cpu"]
    for service, stage in {"embedder": "embed", "retriever": "retrieve", "generator": "generate"}.items():
        selector = metrics(service)[0]["external"]["metric"]["selector"]["matchLabels"]
        assert selector == {"stage": stage, "variant": "default"}
    assert metrics("generator")[1]["pods"]["metric"]["name"] == "sluice_generator_kv_cache_usage"


def test_the_adapter_provides_what_autoscalers_ask_for_out_of_metrics_that_exist() -> None:
    rules = yaml.safe_load((K8S / "metrics" / "prometheus-adapter.yaml").read_text())["rules"]
    provided = {kind: {rule["name"]["as"] for rule in rules[kind]} for kind in ("external", "custom")}
    asked: dict[str, set[str]] = {"external": set(), "custom": set()}
    for scaler in render("overlays/gpu").of("HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "External":
                asked["external"].add(metric["external"]["metric"]["name"])
            if metric["type"] == "Pods":
                asked["custom"].add(metric["pods"]["metric"]["name"])
    assert provided == asked
    code = "".join(path.read_text() for path in (ROOT / "services" / "gateway").rglob("*.py"))
    for rule in rules["external"]:
        series = set(re.findall(r"sluice_[a-z_]+", rule["seriesQuery"] + rule["metricsQuery"]))
        assert all(f'"{name}"' in code for name in series), series
    assert "vllm:kv_cache_usage_perc" in (ROOT / "docs" / "generation.md").read_text()


@pytest.mark.parametrize("name", SCALED)
def test_no_autoscaler_starts_many_pods_at_once_or_for_a_peak_of_seconds(name: str) -> None:
    manifests = render(name)
    behaviors = {h["metadata"]["name"]: h["spec"]["behavior"] for h in manifests.of("HorizontalPodAutoscaler")}
    for scaled in manifests.of("ScaledObject"):
        advanced = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
        behaviors[scaled["metadata"]["name"]] = advanced["behavior"]
    assert behaviors.keys() == set(SERVICES)
    for behavior in behaviors.values():
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 30
        (step,) = behavior["scaleUp"]["policies"]
        assert step["type"] == "Pods"
        assert step["value"] <= 2
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_the_target_of_a_backlog_is_less_than_one_pod_works_on() -> None:
    rooms = {
        "embedder": EmbedderSettings().embedder_room,
        "retriever": RetrieverSettings().retriever_room,
        "generator": GeneratorSettings().generator_room,
    }
    for service, room in rooms.items():
        (metric,) = render("base").get("HorizontalPodAutoscaler", service)["spec"]["metrics"]
        assert 0 < int(metric["external"]["target"]["averageValue"]) <= room
        triggers = render("overlays/keda").get("ScaledObject", service)["spec"]["triggers"]
        thresholds = {t["metadata"]["valueLocation"]: int(t["metadata"]["targetValue"]) for t in triggers}
        assert all(value <= room for queue, value in thresholds.items() if "index" not in queue)


# GPUs


@pytest.mark.parametrize("service", ["embedder", "generator", "predictor"])
def test_a_gpu_is_asked_for_where_there_are_some(service: str) -> None:
    pod = compose("predictor", "predictor-gpu", "gpu").deployment(service)["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("component", "wanted"),
    [
        ("gpu-mig", {"embedder": "nvidia.com/mig-1g.10gb", "generator": "nvidia.com/mig-3g.40gb"}),
        ("gpu-time-slicing", {"embedder": "nvidia.com/gpu.shared", "generator": "nvidia.com/gpu"}),
    ],
)
@pytest.mark.parametrize("predictor", [(), ("predictor",), ("predictor", "predictor-gpu")])
def test_parts_of_gpus_take_the_place_of_whole_ones(
    component: str, wanted: dict[str, str], predictor: tuple[str, ...]
) -> None:
    if "predictor-gpu" in predictor:
        wanted = {**wanted, "predictor": wanted["embedder"]}
    manifests = compose("canary/generator", *predictor, "gpu", component)
    for workload in manifests.of("Deployment"):
        limits = workload["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus = [resource for resource in limits if resource.startswith("nvidia.com/")]
        assert gpus == [wanted[s] for s in [manifests.service_of(workload)] if s in wanted]


# Canaries


@pytest.mark.parametrize("service", ["embedder", "retriever", "generator"])
def test_a_canary_serves_its_own_variant_and_is_otherwise_the_same(service: str) -> None:
    manifests = render("overlays/canary")
    stable, canary = manifests.deployment(service), manifests.deployment(f"{service}-canary")
    variable = {"embedder": "SLUICE_EMBEDDING_VARIANT"}.get(service, f"SLUICE_{service.upper()}_VARIANT")
    assert manifests.settings(stable) | {variable: "canary"} == manifests.settings(canary)
    assert manifests.settings(stable)[variable] == "default"
    assert canary["spec"]["replicas"] == 1
    first, second = (w["spec"]["template"]["spec"] for w in (stable, canary))
    assert {**first, "containers": 0, "topologySpreadConstraints": 0} == {
        **second,
        "containers": 0,
        "topologySpreadConstraints": 0,
    }
