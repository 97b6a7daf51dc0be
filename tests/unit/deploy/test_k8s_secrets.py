"""What `make secrets` writes is what the manifests refer to."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509

from shared.security.broker_config import main
from tests.harness.manifests import Manifests, compose, render
from tests.harness.paths import ROOT

OTHERS = {
    "sluice-gateway-admin": {"admin-key"},
    "sluice-index-qdrant": {"api-key"},
    "sluice-index-s3": {"access-key-id", "secret-access-key"},
}
"""Secrets that a person makes by hand, with their members: see docs/kubernetes.md."""

HOSTS = re.search(r"^BROKER_HOSTS \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("secrets")
    assert HOSTS
    main(["--out", str(out), "--tls", HOSTS.group(1), "--kubernetes"])
    return out


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, set[str]]:
    """The members of each Secret."""
    objects = list(yaml.safe_load_all((folder / "kubernetes.yaml").read_text()))
    assert all(thing["kind"] == "Secret" and thing["metadata"]["namespace"] == "sluice" for thing in objects)
    return {thing["metadata"]["name"]: set(thing["data"]) for thing in objects}


@pytest.mark.parametrize("name", ["overlays/local", "overlays/canary", "index-qdrant", "index-s3"])
def test_every_secret_that_a_pod_mounts_is_made_with_the_files_that_it_reads(
    name: str, written: dict[str, set[str]]
) -> None:
    manifests = compose(name) if name.startswith("index-") else render(name)
    for workload in manifests.workloads:
        pod = workload["spec"]["template"]["spec"]
        files = _files(pod, written | OTHERS)
        for variable, value in _environment(manifests, workload).items():
            if value.startswith("/etc/sluice/"):
                assert value in files, f"{variable} of {workload['metadata']['name']}"
        for container in pod["containers"]:
            for entry in container.get("env", []):
                if key := entry.get("valueFrom", {}).get("secretKeyRef"):
                    assert key["key"] in (written | OTHERS)[key["name"]]


def _environment(manifests: Manifests, workload: dict[str, Any]) -> dict[str, str]:
    return manifests.settings(workload) if workload["kind"] == "Deployment" else {}


def _files(pod: dict[str, Any], secrets: dict[str, set[str]]) -> set[str]:
    """The paths of all files that come from Secrets."""
    mounts = {
        mount["name"]: mount["mountPath"] for container in pod["containers"] for mount in container["volumeMounts"]
    }
    found = set()
    for volume in pod["volumes"]:
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if "secret" in source:
                name = source["secret"].get("secretName") or source["secret"]["name"]
                found |= {f"{mounts[volume['name']]}/{member}" for member in secrets[name]}
    return found


@pytest.mark.parametrize("name", ["base", "overlays/local"])
def test_the_broker_finds_the_files_that_its_configuration_names(name: str, written: dict[str, set[str]]) -> None:
    manifests = render(name)
    pod = manifests.get("StatefulSet", "nats")["spec"]["template"]["spec"]
    (config,) = (thing["data"] for thing in manifests.of("ConfigMap") if "nats.conf" in thing["data"])
    text = "".join(config.values())
    there = _files(pod, written)
    assert set(re.findall(r'"(/etc/nats-tls/[^"]+)"', text)) <= there
    assert {f"/etc/nats/{included}" for included in re.findall(r"^include (\S+)", text, re.MULTILINE)} <= (
        there | {f"/etc/nats/{file}" for file in config}
    )


def test_the_certificate_names_every_address_that_is_dialled(folder: Path) -> None:
    manifests = render("base")
    (config,) = (thing["data"] for thing in manifests.of("ConfigMap") if "nats.conf" in thing["data"])
    dialled = [manifests.settings(manifests.deployment("gateway"))["SLUICE_NATS_URL"]]
    dialled += re.findall(r'"(tls://[^"]+)"', config["cluster.conf"])
    assert len(dialled) == 4
    certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {urlsplit(url).hostname for url in dialled} <= set(names.get_values_for_type(x509.DNSName))
