"""The network policies let pass exactly what the design says: every pair of places is tried on every port."""

import pytest

from tests.harness.manifests import SERVICES, Manifests, compose, render
from tests.harness.network_policies import Place, may_talk

PORTS = {53, 80, 443, 4222, 4318, 6222, 6333, 6443, 7777, 8080, 8081, 8222, 9090}

Table = set[tuple[str, str, int]]


def places(manifests: Manifests) -> list[Place]:
    """The Pods of the manifests, and whom they might meet."""
    found = []
    for number, workload in enumerate(manifests.workloads, start=1):
        pod = workload["spec"]["template"]
        ports = {port["name"]: port["containerPort"] for c in pod["spec"]["containers"] for port in c["ports"]}
        found.append(
            Place(
                name=workload["metadata"]["name"],
                address=f"10.1.0.{number}",
                namespace="sluice",
                labels=pod["metadata"]["labels"],
                ports=ports,
            )
        )
    nats = next(place for place in found if place.name == "nats")
    return [
        *found,
        Place(name="other nats", address="10.1.1.1", namespace="sluice", labels=nats.labels, ports=nats.ports),
        Place(name="stranger inside", address="10.1.1.2", namespace="sluice", labels={"app": "x"}),
        Place(
            name="command", address="10.1.1.3", namespace="sluice-commands", labels={"sluice.io/nats-client": "true"}
        ),
        Place(name="stranger", address="10.1.1.4", namespace="team", labels={"app.kubernetes.io/name": "prometheus"}),
        Place(name="dns", address="10.1.1.5", namespace="kube-system", labels={"k8s-app": "kube-dns"}),
        Place(
            name="prometheus",
            address="10.1.1.6",
            namespace="monitoring",
            labels={"app.kubernetes.io/name": "prometheus"},
        ),
        Place(
            name="collector",
            address="10.1.1.7",
            namespace="monitoring",
            labels={"app.kubernetes.io/name": "opentelemetry-collector"},
        ),
        Place(name="keda", address="10.1.1.8", namespace="keda", labels={"app": "keda-operator"}),
        Place(name="qdrant", address="10.1.1.9", namespace="qdrant", labels={"app.kubernetes.io/name": "qdrant"}),
        Place(name="api server", address="10.96.0.1"),
        Place(name="internet", address="203.0.113.7"),
        Place(name="metadata service", address="169.254.169.254"),
    ]


def allowed(manifests: Manifests) -> Table:
    """Every (from, to, port) that passes, where one of the two is Sluice's. Port 53 stands for UDP and TCP."""
    everywhere = places(manifests)
    policies = manifests.of("NetworkPolicy")
    own = {workload["metadata"]["name"] for workload in manifests.workloads} | {"other nats", "command"}
    return {
        (source.name, target.name, port)
        for source in everywhere
        for target in everywhere
        for port in PORTS
        if source is not target and {source.name, target.name} & own
        if may_talk(policies, source, target, port)
    }


def designed(workloads: tuple[str, ...] = SERVICES) -> Table:
    """The design of the base, written down by hand."""
    all_pods = (*workloads, "nats", "other nats", "stranger inside", "command")
    private = ("api server", "stranger", "dns", "prometheus", "collector", "keda", "qdrant")
    outside = (*private, "internet", "metadata service")
    table: Table = {(pod, "dns", 53) for pod in all_pods}
    table |= {(service, broker, 4222) for service in workloads for broker in ("nats", "other nats")}
    table |= {("nats", "other nats", 6222), ("other nats", "nats", 6222)}
    table |= {(place, "gateway", port) for place in outside for port in (8080, 8081)}
    table |= {("prometheus", service, 8080) for service in workloads if service != "gateway"}
    table |= {("prometheus", "gateway", 9090)}
    # By its address the API server cannot be told from other private addresses.
    table |= {("scheduler", place, port) for place in private for port in (443, 6443)}
    own = {*workloads, "nats", "other nats", "command"}
    return {(source, target, port) for source, target, port in table if {source, target} & own}


@pytest.mark.parametrize("name", ["base", "overlays/local", "overlays/gpu"])
def test_exactly_the_designed_connections_are_possible(name: str) -> None:
    assert allowed(render(name)) == designed()


@pytest.mark.parametrize(
    "component",
    [
        "cert-manager", "cert-manager-nats", "external-secrets", "gateway-api", "index-rwo", "index-rwx", "ingress",
        "podmonitor", "priorities", "prometheusrule", "quota",
    ],
)  # fmt: skip
def test_components_that_need_no_connection_open_none(component: str) -> None:
    assert allowed(compose(component)) == designed()


def test_a_canary_may_do_what_its_stage_may() -> None:
    canaries = ("embedder-canary", "retriever-canary", "generator-canary")
    assert allowed(render("overlays/canary")) == designed((*SERVICES, *canaries))


def test_keda_opens_the_gateways_metrics_to_keda_alone() -> None:
    assert allowed(render("overlays/keda")) - designed() == {("keda", "gateway", 9090)}


def test_the_way_outside_is_opened_for_those_who_may_need_it_and_leads_only_outside() -> None:
    added = allowed(compose("outside")) - designed()
    assert added == {(service, "internet", 443) for service in ("embedder", "generator", "scheduler")}


def test_traces_go_to_the_collector() -> None:
    assert allowed(compose("tracing")) - designed() == {(service, "collector", 4318) for service in SERVICES}


def test_the_brokers_metrics_are_open_to_prometheus_alone() -> None:
    added = allowed(compose("nats-exporter")) - designed()
    assert added == {("prometheus", "nats", 7777), ("prometheus", "other nats", 7777)}


def test_an_index_in_a_bucket_opens_https_for_the_retriever_alone() -> None:
    added = allowed(compose("index-s3")) - designed()
    assert {(source, port) for source, _, port in added} == {("retriever", 443)}
    assert ("retriever", "internet", 443) in added
    assert ("retriever", "metadata service", 443) not in added


def test_an_index_in_qdrant_opens_its_port_for_the_retriever_alone() -> None:
    assert allowed(compose("index-qdrant")) - designed() == {("retriever", "qdrant", 6333)}


def test_dns_is_open_by_udp() -> None:
    manifests = render("base")
    found = {place.name: place for place in places(manifests)}
    policies = manifests.of("NetworkPolicy")
    assert may_talk(policies, found["gateway"], found["dns"], 53, "UDP")
    assert not may_talk(policies, found["gateway"], found["stranger"], 53, "UDP")


def test_every_namespace_denies_by_default() -> None:
    for namespace in render("base").of("Namespace"):
        policy = render("base").get("NetworkPolicy", "default-deny", namespace["metadata"]["name"])
        assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
