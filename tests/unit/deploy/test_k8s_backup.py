"""The CronJob that backs up and the Job that restores: what their Pods may do, and what they are given."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.retriever.backup.__main__ import parser
from services.retriever.backup.settings import BackupSettings
from shared.security.broker_config import main as write_secrets
from tests.harness.manifests import Manifests, compose, render
from tests.harness.network_policies import Place, may_talk

Object = dict[str, Any]

BY_HAND = {"sluice-backup-s3", "sluice-nats-admin"}
"""Secrets that a person makes: see docs/backup.md."""

ON_VOLUMES, IN_BUCKETS = ("backup",), ("index-s3", "backup", "backup-s3")


def pod_of(name: str) -> tuple[Manifests, Object]:
    """The Pod's template of the CronJob, or of the Job."""
    if name == "restore":
        manifests = render("restore")
        return manifests, manifests.get("Job", "restore")["spec"]["template"]
    manifests = compose(*(ON_VOLUMES if name == "on volumes" else IN_BUCKETS))
    return manifests, manifests.get("CronJob", "backup")["spec"]["jobTemplate"]["spec"]["template"]


every = pytest.mark.parametrize("name", ["on volumes", "in buckets", "restore"])


@every
def test_the_pod_meets_the_standard_restricted_and_has_no_token(name: str) -> None:
    pod = pod_of(name)[1]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert {"requests", "limits"} <= container["resources"].keys()
    kinds = {key for volume in pod["volumes"] for key in volume if key != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim", "projected"}
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


@every
def test_its_command_and_settings_are_those_of_the_program(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests, template = pod_of(name)
    (container,) = template["spec"]["containers"]
    assert container["command"] == ["python", "-P", "-m", "services.retriever.backup"]
    options = parser().parse_args(container["args"])
    assert options.command == ("restore" if name == "restore" else "create")
    if name != "restore":
        assert options.keep == 7
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef" * 4)
    known = {f"SLUICE_{field.upper()}" for field in BackupSettings.model_fields}
    values = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    assert {key for key in values if key.startswith("SLUICE_")} <= known
    for source in container.get("envFrom", []):
        values |= manifests.get("ConfigMap", source["configMapRef"]["name"])["data"]
    for key, value in values.items():
        monkeypatch.setenv(key, str(secret) if value.startswith("/etc/sluice/") else value)
    settings = BackupSettings()
    assert settings.replicas == 3
    assert settings.nats_user == ("admin" if name == "restore" else "backup")


@every
def test_every_secret_is_made_by_the_command_or_named_on_the_page(name: str, tmp_path: Path) -> None:
    write_secrets(["--out", str(tmp_path), "--tls", "nats", "--kubernetes"])
    written = {thing["metadata"]["name"] for thing in yaml.safe_load_all((tmp_path / "kubernetes.yaml").read_text())}
    pod = pod_of(name)[1]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "nats")
    named = {source["secret"]["name"] for source in volume["projected"]["sources"]}
    keys = (entry.get("valueFrom", {}).get("secretKeyRef") for entry in pod["containers"][0]["env"])
    named |= {key["name"] for key in keys if key}
    assert named <= written | BY_HAND


@pytest.mark.parametrize("name", ["on volumes", "in buckets"])
def test_it_reaches_the_broker_and_for_a_bucket_https_and_nothing_else(name: str) -> None:
    manifests, template = pod_of(name)
    policies = manifests.of("NetworkPolicy")
    backup = Place(name="backup", address="10.1.0.9", namespace="sluice", labels=template["metadata"]["labels"])
    nats = manifests.get("StatefulSet", "nats")["spec"]["template"]
    ports = {port["name"]: port["containerPort"] for port in nats["spec"]["containers"][0]["ports"]}
    broker = Place(name="nats", address="10.1.0.1", namespace="sluice", labels=nats["metadata"]["labels"], ports=ports)
    internet = Place(name="internet", address="203.0.113.7")
    metadata = Place(name="metadata service", address="169.254.169.254")
    assert may_talk(policies, backup, broker, 4222)
    assert not may_talk(policies, backup, broker, 8222)
    assert may_talk(policies, backup, internet, 443) is (name == "in buckets")
    assert not may_talk(policies, backup, metadata, 443)
    assert not may_talk(policies, internet, backup, 8080)


def test_what_is_named_exists() -> None:
    manifests, template = pod_of("on volumes")
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in template["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {claim["metadata"]["name"] for claim in manifests.of("PersistentVolumeClaim")}
    account = manifests.get("ServiceAccount", template["spec"]["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    in_buckets = compose(*IN_BUCKETS)
    assert in_buckets.of("PersistentVolumeClaim") == []
