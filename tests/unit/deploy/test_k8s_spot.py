"""The component for spot nodes: who may run there, how the Pods spread, and how long a drain may take."""

import pytest

from tests.harness.manifests import Manifests, compose

INTERRUPTIBLE = ("embedder", "retriever", "generator", "predictor", "scheduler")
NOTICE = 15.0
"""Seconds that GKE leaves a Pod, the shortest of the providers."""

CAPACITY = {"karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType", "cloud.google.com/gke-provisioning"}


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return compose("canary/retriever", "predictor", "spot")


@pytest.mark.parametrize("name", [*INTERRUPTIBLE, "retriever-canary"])
def test_a_drain_ends_within_the_shortest_notice(manifests: Manifests, name: str) -> None:
    workload = manifests.deployment(name)
    grace = float(manifests.settings(workload)["SLUICE_GRACE_SECONDS"])
    # Work ends first, then open connections do, each within the grace period.
    assert 2 * grace < NOTICE
    assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] <= 25


@pytest.mark.parametrize("name", INTERRUPTIBLE)
def test_pods_spread_over_capacity_types_and_still_over_nodes_and_zones(manifests: Manifests, name: str) -> None:
    template = manifests.deployment(name)["spec"]["template"]
    constraints = template["spec"]["topologySpreadConstraints"]
    keys = {constraint["topologyKey"] for constraint in constraints}
    assert keys == CAPACITY | {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    for constraint in constraints:
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
    assert any(toleration["key"] == "cloud.google.com/gke-spot" for toleration in template["spec"]["tolerations"])


def test_gateway_and_broker_stay_on_other_nodes(manifests: Manifests) -> None:
    for workload in (manifests.deployment("gateway"), manifests.get("StatefulSet", "nats")):
        pod = workload["spec"]["template"]["spec"]
        required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = required["nodeSelectorTerms"]
        assert {expression["operator"] for expression in term["matchExpressions"]} == {"NotIn"}
        assert {expression["key"] for expression in term["matchExpressions"]} > CAPACITY
        assert "tolerations" not in pod


def test_with_gpus_the_taints_of_both_are_tolerated() -> None:
    for name in ("embedder", "generator", "predictor"):
        pod = compose("predictor", "predictor-gpu", "gpu", "spot", "spot-gpu").deployment(name)["spec"]["template"][
            "spec"
        ]
        keys = {toleration["key"] for toleration in pod["tolerations"]}
        assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= keys
