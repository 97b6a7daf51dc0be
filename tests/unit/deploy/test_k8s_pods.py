"""The rules that platform teams check of Pods, over every overlay: security, probes, resources, disruption, rollout."""

from pathlib import Path
from typing import Any

import pytest

from services.embedder.settings import EmbedderSettings
from services.gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.predictor.settings import PredictorSettings
from services.retriever.settings import RetrieverSettings
from services.scheduler.settings import SchedulerSettings
from shared.nats.settings import QueueSettings
from shared.service.settings import ServiceSettings
from tests.harness.manifests import COMPOSITIONS, SERVICES, render, rendering

SETTINGS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "retriever": RetrieverSettings,
    "generator": GeneratorSettings,
    "predictor": PredictorSettings,
    "scheduler": SchedulerSettings,
}
OVERLAYS = ("overlays/local", "overlays/gpu", "overlays/keda", "overlays/canary")
ALL = (*OVERLAYS, *COMPOSITIONS)

Object = dict[str, Any]


every_overlay = pytest.mark.parametrize("name", ALL)


# Security


@every_overlay
def test_every_namespace_takes_restricted_pods_only(name: str) -> None:
    namespaces = rendering(name).of("Namespace")
    assert {namespace["metadata"]["name"] for namespace in namespaces} == {"sluice", "sluice-commands"}
    for namespace in namespaces:
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@every_overlay
def test_every_pod_meets_the_standard_restricted_and_more(name: str) -> None:
    for workload, pod, container in rendering(name).containers():
        assert pod["securityContext"]["runAsNonRoot"] is True, workload
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all(not port.get("hostPort") for port in container["ports"])
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in own
        kinds = {key for volume in pod["volumes"] for key in volume if key != "name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


@every_overlay
def test_every_emptydir_has_a_limit_and_there_is_a_tmp(name: str) -> None:
    for workload, pod, container in rendering(name).containers():
        assert all(v["emptyDir"].get("sizeLimit") for v in pod["volumes"] if "emptyDir" in v), workload
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@every_overlay
def test_only_the_scheduler_has_a_token(name: str) -> None:
    manifests = rendering(name)
    assert all(account["automountServiceAccountToken"] is False for account in manifests.of("ServiceAccount"))
    with_token = {
        workload["metadata"]["name"]
        for workload in manifests.workloads
        if workload["spec"]["template"]["spec"]["automountServiceAccountToken"]
    }
    assert with_token == {"scheduler"}
    assert all(w["spec"]["template"]["spec"]["enableServiceLinks"] is False for w in manifests.workloads)


@every_overlay
def test_no_secret_is_in_the_manifests(name: str) -> None:
    manifests = rendering(name)
    assert not manifests.of("Secret")
    suffixes = ("PASSWORD", "_KEY", "TOKEN", "SECRET", "HEADERS")
    for workload in manifests.workloads:
        for entry in (e for c in workload["spec"]["template"]["spec"]["containers"] for e in c.get("env", [])):
            if entry["name"].endswith(suffixes):
                assert "secretKeyRef" in entry.get("valueFrom", {}), f"{entry['name']} is written down"
    for config in manifests.of("ConfigMap"):
        assert not [key for key in config["data"] if key.endswith(suffixes)]


# Settings


@every_overlay
@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_exists_and_is_accepted(
    name: str, service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests = rendering(name)
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef" * 4)
    shared = {key for config in manifests.of("ConfigMap") for key in config["data"] if key.startswith("SLUICE_")}
    everybodys = {f"SLUICE_{field.upper()}" for settings in SETTINGS.values() for field in settings.model_fields}
    known = {f"SLUICE_{field.upper()}" for field in SETTINGS[service].model_fields}
    assert shared <= everybodys
    for workload in (w for w in manifests.of("Deployment") if manifests.service_of(w) == service):
        own = {e["name"] for e in workload["spec"]["template"]["spec"]["containers"][0]["env"]}
        misspelt = {variable for variable in own if variable.startswith("SLUICE_")} - known
        assert not misspelt, f"{service} knows no {misspelt}"
        with monkeypatch.context() as environment:
            for key, value in manifests.settings(workload).items():
                environment.setenv(key, str(secret) if value.startswith("/etc/sluice/") else value)
            SETTINGS[service]()


@every_overlay
def test_every_service_listens_where_its_pod_says(name: str) -> None:
    manifests = rendering(name)
    for workload in manifests.of("Deployment"):
        values = manifests.settings(workload)
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        assert values["SLUICE_HTTP_HOST"] == "0.0.0.0"
        assert ports["http"] == values["SLUICE_HTTP_PORT"]
        scraped = workload["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"]
        assert scraped == ports.get("metrics", ports["http"])
        assert ports.get("metrics", values.get("SLUICE_METRICS_PORT")) == values.get("SLUICE_METRICS_PORT")


@every_overlay
def test_there_are_as_many_copies_of_streams_as_nodes_of_the_broker(name: str) -> None:
    manifests = rendering(name)
    nodes = manifests.get("StatefulSet", "nats")["spec"]["replicas"]
    for workload in manifests.of("Deployment"):
        assert manifests.settings(workload)["SLUICE_REPLICAS"] == str(nodes)


@every_overlay
def test_the_broker_has_room_for_what_it_is_told_to_keep(name: str) -> None:
    nats = rendering(name).get("StatefulSet", "nats")
    (container,) = nats["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    volume = nats["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert _bytes(environment["FILE_STORE"]) < _bytes(volume)
    assert QueueSettings().queue_bytes < 10**9 < _bytes(environment["GOMEMLIMIT"].removesuffix("B"))
    assert _bytes(environment["GOMEMLIMIT"].removesuffix("B")) < _bytes(container["resources"]["limits"]["memory"])


def _bytes(quantity: str) -> float:
    units = {"Mi": 2**20, "Gi": 2**30, "GB": 10**9}
    return float(quantity[:-2]) * units[quantity[-2:]]


# Life and death


@every_overlay
def test_every_container_has_probes_that_wait_for_the_model(name: str) -> None:
    for workload, _, container in rendering(name).containers():
        ports = {port["name"] for port in container["ports"]}
        probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
        # The broker's liveness is a program: it asks for a lost stream too.
        assert ["exec" in probe for probe in probes] == [False, workload == "nats", False], workload
        assert all(probe["httpGet"]["port"] in ports for probe in probes if "httpGet" in probe), workload
        if workload != "nats":
            assert [probe["httpGet"]["path"] for probe in probes] == ["/readyz", "/livez", "/readyz"]
        patience = probes[0]["periodSeconds"] * probes[0]["failureThreshold"]
        assert patience >= 600
        if container["name"] == "generator" and "nvidia.com/gpu" in container["resources"]["limits"]:
            assert patience >= 1800


@every_overlay
def test_a_pod_has_longer_to_end_than_its_drain_may_take(name: str) -> None:
    manifests = rendering(name)
    for workload in manifests.of("Deployment"):
        settings = SETTINGS[manifests.service_of(workload)]
        values = manifests.settings(workload)
        fields = settings.model_fields
        grace = float(values.get("SLUICE_GRACE_SECONDS", fields["grace_seconds"].default))
        linger = float(values.get("SLUICE_LINGER_SECONDS", fields["linger_seconds"].default))
        # Work ends first, then open connections do, each within the grace period: shared/service/process.py.
        assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= max(grace, linger) + grace + 10


def test_the_gateway_takes_requests_until_everybody_knows_that_it_goes() -> None:
    gateway = render("base").deployment("gateway")
    probe = gateway["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    linger = float(render("base").settings(gateway)["SLUICE_LINGER_SECONDS"])
    assert linger > probe["periodSeconds"] * probe["failureThreshold"]


@every_overlay
def test_a_rollout_takes_no_pod_away_before_another_is_ready(name: str) -> None:
    for workload in rendering(name).of("Deployment"):
        assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@every_overlay
def test_every_workload_has_one_disruption_budget(name: str) -> None:
    manifests = rendering(name)
    for workload in manifests.workloads:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        budgets = [
            budget
            for budget in manifests.of("PodDisruptionBudget")
            if budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ]
        assert len(budgets) == 1, workload["metadata"]["name"]
        assert budgets[0]["spec"]["maxUnavailable"] == 1


@every_overlay
def test_pods_of_a_workload_spread_over_nodes_and_zones(name: str) -> None:
    for workload in rendering(name).workloads:
        template = workload["spec"]["template"]
        constraints = template["spec"]["topologySpreadConstraints"]
        assert {c["topologyKey"] for c in constraints} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        labels = template["metadata"]["labels"]
        assert all(c["labelSelector"]["matchLabels"].items() <= labels.items() for c in constraints)
