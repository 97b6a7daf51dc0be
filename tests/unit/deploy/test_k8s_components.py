"""The components that connect Sluice with what a cluster has: ingress, monitoring, certificates, priorities, quotas."""

import re
from typing import Any

import pytest

from deploy.observability.source.rule import RULE, prometheus_rule
from services.gateway.inference.grpc import errors, health
from services.gateway.settings import GatewaySettings
from shared.nats.settings import QueueSettings
from tests.harness.manifests import SERVICES, Manifests, compose, render
from tests.harness.network_policies import Place, may_talk
from tests.harness.paths import ROOT

Object = dict[str, Any]

UNITS = {"m": 0.001, "": 1.0, "Mi": 2.0**20, "Gi": 2.0**30}


def quantity(value: str) -> float:
    """A quantity of Kubernetes as a number of cores or bytes."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", value)
    assert found, value
    return float(found[1]) * UNITS[found[2]]


def seconds(value: str) -> float:
    return float(value.removesuffix("s"))


# Ingress and Gateway API


@pytest.mark.parametrize("name", ["gateway", "gateway-grpc"])
def test_an_ingress_streams_waits_and_takes_what_the_gateway_takes(name: str) -> None:
    ingress = compose("ingress").get("Ingress", name)
    prefix = "nginx.ingress.kubernetes.io/"
    said = {key.removeprefix(prefix): value for key, value in ingress["metadata"]["annotations"].items()}
    if name == "gateway":
        assert said["proxy-buffering"] == said["proxy-request-buffering"] == "off"
    else:
        # nginx never buffers what it passes by gRPC.
        assert said["backend-protocol"] == "GRPC"
    assert float(said["proxy-read-timeout"]) > QueueSettings().longest_deadline
    assert float(said["proxy-send-timeout"]) > QueueSettings().longest_deadline
    # nginx counts in MiB.
    assert int(said["proxy-body-size"].removesuffix("m")) * 2**20 == GatewaySettings().max_body_bytes


def test_routes_wait_longer_than_any_query_and_without_end_for_the_events_of_a_job() -> None:
    rules = compose("gateway-api").get("HTTPRoute", "gateway")["spec"]["rules"]
    jobs, grpc, all_others = rules
    assert [rule["matches"][0]["path"]["value"] for rule in (jobs, all_others)] == ["/v1/jobs", "/"]
    assert jobs["timeouts"] == {"request": "0s"}
    for rule in (grpc, all_others):
        assert seconds(rule["timeouts"]["request"]) > QueueSettings().longest_deadline


def test_both_ways_in_lead_each_service_of_grpc_to_its_port() -> None:
    manifests = compose("ingress", "gateway-api")
    _, port = manifests.get("Service", "gateway")["spec"]["ports"]
    assert (port["name"], port["appProtocol"]) == ("grpc", "kubernetes.io/h2c")
    served = {f"/{errors.SERVICE}", health.PATH.removesuffix("/")}
    (rule,) = manifests.get("Ingress", "gateway-grpc")["spec"]["rules"]
    assert {each["path"] for each in rule["http"]["paths"]} == served
    assert {each["backend"]["service"]["port"]["name"] for each in rule["http"]["paths"]} == {port["name"]}
    (grpc,) = [
        rule
        for rule in manifests.get("HTTPRoute", "gateway")["spec"]["rules"]
        if rule["backendRefs"] == [{"name": "gateway", "port": port["port"]}]
    ]
    assert {match["path"]["value"] for match in grpc["matches"]} == served


def test_both_ways_in_lead_to_the_gateways_service_with_the_certificate_of_cert_manager() -> None:
    manifests = compose("ingress", "gateway-api", "cert-manager")
    port, _ = manifests.get("Service", "gateway")["spec"]["ports"]
    ingress, other = (manifests.get("Ingress", name)["spec"] for name in ("gateway", "gateway-grpc"))
    assert [ingress[part] for part in ("tls", "ingressClassName")] == [
        other[part] for part in ("tls", "ingressClassName")
    ]
    assert ingress["rules"][0]["host"] == other["rules"][0]["host"]
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "gateway", "port": {"name": port["name"]}}
    route = manifests.get("HTTPRoute", "gateway")["spec"]
    assert {rule["backendRefs"][0]["name"] for rule in route["rules"]} == {"gateway"}
    assert route["rules"][-1]["backendRefs"] == [{"name": "gateway", "port": port["port"]}]
    (listener,) = manifests.get("Gateway", "sluice")["spec"]["listeners"]
    assert route["parentRefs"] == [{"name": "sluice", "sectionName": listener["name"]}]
    certificate = manifests.get("Certificate", "sluice-gateway")["spec"]
    named = {ingress["tls"][0]["secretName"], listener["tls"]["certificateRefs"][0]["name"], certificate["secretName"]}
    assert len(named) == 1
    hosts = [ingress["rules"][0]["host"], listener["hostname"], *route["hostnames"], *certificate["dnsNames"]]
    assert len(set(hosts)) == 1


# Monitoring


def _selected(monitor: Object, manifests: Manifests) -> list[tuple[str, int]]:
    """Each Pod and port that a PodMonitor reads."""
    selector = monitor["spec"]["selector"]
    found = []
    for workload in manifests.workloads:
        pod = workload["spec"]["template"]
        labels = pod["metadata"]["labels"]
        matches = selector.get("matchLabels", {}).items() <= labels.items()
        for each in selector.get("matchExpressions", []):
            inside = labels.get(each["key"]) in each["values"]
            matches &= inside if each["operator"] == "In" else not inside
        ports = {port["name"]: port["containerPort"] for c in pod["spec"]["containers"] for port in c["ports"]}
        named = [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"] if matches]
        found += [(workload["metadata"]["name"], ports[port]) for port in named if port in ports]
    return found


def test_monitors_read_what_the_annotations_say_and_never_the_port_that_asks_for_a_key() -> None:
    manifests = compose("canary/retriever", "nats-exporter", "podmonitor")
    read = [target for monitor in manifests.of("PodMonitor") for target in _selected(monitor, manifests)]
    annotated = {
        (w["metadata"]["name"], int(w["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"]))
        for w in manifests.workloads
    }
    assert len(read) == len(set(read))
    assert set(read) == annotated
    assert ("gateway", 8080) not in read


def test_prometheus_reaches_every_port_that_a_monitor_reads() -> None:
    manifests = compose("nats-exporter", "podmonitor")
    prometheus = Place(
        name="prometheus", address="10.2.0.1", namespace="monitoring", labels={"app.kubernetes.io/name": "prometheus"}
    )
    for monitor in manifests.of("PodMonitor"):
        for name, port in _selected(monitor, manifests):
            (workload,) = (w for w in manifests.workloads if w["metadata"]["name"] == name)
            labels = workload["spec"]["template"]["metadata"]["labels"]
            pod = Place(name=name, address="10.2.0.2", namespace="sluice", labels=labels)
            assert may_talk(manifests.of("NetworkPolicy"), prometheus, pod, port), f"{name}:{port}"


def test_without_the_exporter_no_monitor_finds_the_broker() -> None:
    manifests = compose("podmonitor")
    assert not _selected(manifests.get("PodMonitor", "sluice-nats"), manifests)


def test_the_rule_is_what_its_program_writes_from_the_alerts() -> None:
    assert RULE.read_text() == prometheus_rule(), "run python -m deploy.observability.source"


# Certificates and Secrets


def test_the_certificate_of_the_broker_names_the_hosts_of_make_secrets() -> None:
    hosts = re.search(r"^BROKER_HOSTS \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert hosts
    spec = compose("cert-manager-nats").get("Certificate", "sluice-nats")["spec"]
    assert set(spec["dnsNames"]) == set(hosts[1].split(",")) - {"127.0.0.1"}
    assert {"server auth", "client auth"} <= set(spec["usages"])


def test_services_get_the_certificate_of_the_authority_and_no_key() -> None:
    manifests = compose("cert-manager-nats")
    for service in SERVICES:
        volumes = manifests.deployment(service)["spec"]["template"]["spec"]["volumes"]
        (nats,) = (volume for volume in volumes if volume["name"] == "nats")
        authority, credentials = (source["secret"] for source in nats["projected"]["sources"])
        assert authority == {"name": "sluice-nats-server-tls", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        assert credentials == {"name": f"sluice-nats-{service}"}


def test_an_external_secret_stands_for_every_secret_that_a_pod_of_the_base_mounts() -> None:
    manifests = compose("external-secrets")
    mounted = set()
    for workload in manifests.workloads:
        for volume in workload["spec"]["template"]["spec"]["volumes"]:
            for source in (volume, *volume.get("projected", {}).get("sources", [])):
                if "secret" in source:
                    mounted.add(source["secret"].get("secretName") or source["secret"]["name"])
    assert {thing["metadata"]["name"] for thing in manifests.of("ExternalSecret")} == mounted


# Priorities, quotas, requests


def test_gateway_and_broker_come_before_workers_and_these_before_commands() -> None:
    manifests = compose("canary/generator", "priorities")
    values = {thing["metadata"]["name"]: thing["value"] for thing in manifests.of("PriorityClass")}
    named = {w["metadata"]["name"]: w["spec"]["template"]["spec"]["priorityClassName"] for w in manifests.workloads}
    front = {values[named.pop(name)] for name in ("gateway", "nats")}
    workers = {values[name] for name in named.values()}
    batch = manifests.settings(manifests.deployment("scheduler"))["SLUICE_KUBERNETES_PRIORITY_CLASS"]
    assert min(front) > max(workers) > 0 > values[batch]
    assert not [thing for thing in manifests.of("PriorityClass") if thing.get("globalDefault")]
    assert manifests.get("PriorityClass", batch, None)["preemptionPolicy"] == "Never"


def test_the_quota_has_room_for_every_service_at_its_maximum_during_a_rollout() -> None:
    manifests = compose("quota")
    hard = manifests.get("ResourceQuota", "sluice")["spec"]["hard"]
    most = {h["metadata"]["name"]: h["spec"]["maxReplicas"] + 1 for h in manifests.of("HorizontalPodAutoscaler")}
    most["nats"] = manifests.get("StatefulSet", "nats")["spec"]["replicas"]
    need = {"cpu": 0.0, "memory": 0.0}
    for name, _, container in manifests.containers():
        for resource in need:
            need[resource] += most[name] * quantity(container["resources"]["requests"][resource])
    # Twice: as much again for canaries and stages of one's own.
    assert 2 * sum(most.values()) <= int(hard["pods"])
    assert 2 * need["cpu"] <= quantity(hard["requests.cpu"])
    assert 2 * need["memory"] <= quantity(hard["requests.memory"])
    claims = [claim["spec"] for claim in manifests.of("PersistentVolumeClaim")]
    claims += most["nats"] * [manifests.get("StatefulSet", "nats")["spec"]["volumeClaimTemplates"][0]["spec"]]
    assert 2 * len(claims) <= int(hard["persistentvolumeclaims"])
    stored = sum(quantity(claim["resources"]["requests"]["storage"]) for claim in claims)
    assert 2 * stored <= quantity(hard["requests.storage"])


def test_a_pod_that_requests_nothing_is_given_requests_that_the_quota_counts() -> None:
    manifests = compose("quota")
    counted = {key.removeprefix("requests.") for key in manifests.get("ResourceQuota", "sluice")["spec"]["hard"]}
    (limit,) = manifests.get("LimitRange", "sluice")["spec"]["limits"]
    assert counted & {"cpu", "memory"} == set(limit["defaultRequest"])


MEASURED = {"gateway": 70, "retriever": 100, "generator": 50, "embedder": 515, "scheduler": 125, "nats": 35}
"""Memory under six queries per second on a cluster, in MB."""


@pytest.mark.parametrize("service", MEASURED)
def test_requests_are_what_was_measured_and_a_quarter_more(service: str) -> None:
    (requests,) = (
        container["resources"]["requests"]["memory"]
        for name, _, container in compose("requests").containers()
        if name == service
    )
    assert 1.25 * MEASURED[service] * 10**6 <= quantity(requests) <= 1.5 * MEASURED[service] * 10**6


# The index


def test_a_volume_of_one_node_keeps_the_retrievers_on_that_node() -> None:
    manifests = compose("canary/retriever")
    assert manifests.get("PersistentVolumeClaim", "index")["spec"]["accessModes"] == ["ReadWriteOnce"]
    for name in ("retriever", "retriever-canary"):
        pod = manifests.deployment(name)["spec"]["template"]["spec"]
        (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        # All of them, the Pod itself too: the first finds none, and Kubernetes then lets it go anywhere.
        expression = {"key": "app.kubernetes.io/name", "operator": "In", "values": ["retriever"]}
        assert term["labelSelector"] == {"matchExpressions": [expression]}


def test_no_claim_of_the_base_needs_more_than_a_cluster_has() -> None:
    for name in ("base", "overlays/local", "overlays/keda"):
        for claim in render(name).of("PersistentVolumeClaim"):
            assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
            assert "storageClassName" not in claim["spec"]


def test_one_retriever_is_all_that_any_autoscaler_starts_on_one_volume() -> None:
    scaler = compose("index-rwo").get("HorizontalPodAutoscaler", "retriever")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 1)
    assert compose("keda", "index-rwo").get("ScaledObject", "retriever")["spec"]["maxReplicaCount"] == 1


@pytest.mark.parametrize("component", ["index-rwx", "index-qdrant", "index-s3"])
def test_retrievers_run_on_any_node_where_the_index_is_reached_from_any(component: str) -> None:
    manifests = compose("canary/retriever", component)
    for name in ("retriever", "retriever-canary"):
        assert "affinity" not in manifests.deployment(name)["spec"]["template"]["spec"]
    claims = manifests.of("PersistentVolumeClaim")
    assert [claim["spec"]["accessModes"] for claim in claims] == (
        [["ReadWriteMany"]] if component == "index-rwx" else []
    )


# GPUs


def test_a_claim_takes_the_place_of_a_count_of_gpus() -> None:
    manifests = compose("canary/generator", "predictor", "predictor-gpu", "gpu", "gpu-dra")
    for name in ("embedder", "generator", "generator-canary", "predictor"):
        pod = manifests.deployment(name)["spec"]["template"]["spec"]
        (claim,) = pod["resourceClaims"]
        resources = pod["containers"][0]["resources"]
        assert resources["claims"] == [{"name": claim["name"]}]
        assert not [limit for limit in resources["limits"] if limit.startswith("nvidia.com/")]
        assert "nodeSelector" not in pod
        assert manifests.get("ResourceClaimTemplate", claim["resourceClaimTemplateName"])


def test_hami_is_told_how_much_memory_each_share_of_a_gpu_has() -> None:
    manifests = compose("predictor", "predictor-gpu", "gpu", "gpu-hami")
    for name in ("embedder", "generator", "predictor"):
        limits = manifests.deployment(name)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert {"nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpucores"} <= set(limits)
