"""The section Install of docs/kubernetes.md, followed to the letter as far as a machine without a cluster can."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.tools import KUBECTL, OLDEST_KUBECTL
from tests.harness.install_page import Checkout, install_commands
from tests.harness.paths import ROOT

WITHOUT_CLUSTER = [block for block in install_commands() if "sluice ask" not in block]

HEAVY = ("nats", "faststream", "fastapi", "torch", "numpy", "lancedb", "openvino", "opentelemetry")

IMPORTS = """
import sys
from shared.security import broker_config
print(*sys.modules)
"""


def secrets_of(pod: dict[str, Any]) -> set[str]:
    """The Secrets that a Pod cannot start without."""
    sources = [source for volume in pod.get("volumes", []) for source in _sources(volume)]
    return {source.get("secretName", source.get("name")) for source in sources if not source.get("optional")}


def _sources(volume: dict[str, Any]) -> list[dict[str, Any]]:
    projected = [part["secret"] for part in volume.get("projected", {}).get("sources", []) if "secret" in part]
    return projected + ([volume["secret"]] if "secret" in volume else [])


@pytest.fixture(params=[KUBECTL, OLDEST_KUBECTL], ids=["newest kubectl", "oldest kubectl"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, request.param)


def test_the_commands_succeed_one_after_the_other_and_removal_leaves_nothing(checkout: Checkout) -> None:
    for block in WITHOUT_CLUSTER:
        checkout.run(block)
    assert {thing["metadata"].get("namespace") for thing in checkout.objects} <= {None}


def test_secrets_are_there_before_what_waits_for_them(checkout: Checkout) -> None:
    for block in WITHOUT_CLUSTER:
        checkout.run(block)
        if "apply -k" in block:
            break
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in checkout.objects]
    workloads = [thing for thing in checkout.objects if thing["kind"] in ("Deployment", "StatefulSet")]
    assert len(workloads) == 6
    for workload in workloads:
        at = names.index((workload["kind"], workload["metadata"]["name"]))
        for secret in secrets_of(workload["spec"]["template"]["spec"]):
            assert names.index(("Secret", secret)) < at, secret


def test_stopping_keeps_claims_secrets_and_the_namespace(checkout: Checkout) -> None:
    for block in WITHOUT_CLUSTER:
        checkout.run(block)
        if "--all" in block and "delete" in block:
            break
    kinds = {thing["kind"] for thing in checkout.objects}
    assert {"Namespace", "Secret", "PersistentVolumeClaim"} <= kinds
    assert not {"Deployment", "StatefulSet"} & kinds


def test_making_secrets_loads_nothing_of_the_services() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({*HEAVY, "services"})


def test_making_secrets_installs_nothing_where_the_platform_is_installed(tmp_path: Path) -> None:
    makefile = ["make", "--dry-run", "secrets", f"VENV={tmp_path}"]
    (tmp_path / ".installed").touch()
    done = subprocess.run(makefile, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip" not in done.stdout


def test_making_secrets_installs_a_client_where_nothing_is_installed(tmp_path: Path) -> None:
    makefile = ["make", "--dry-run", "secrets", f"VENV={tmp_path}"]
    done = subprocess.run(makefile, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'.[secrets]'" in done.stdout
    assert "--requirement" not in done.stdout, "a lock brings the whole platform"


def test_images_are_for_the_cpu_unless_asked_otherwise_as_the_page_says() -> None:
    assert "builds all five for the CPU" in (ROOT / "docs" / "kubernetes.md").read_text()
    assert "\nARG ACCELERATOR=cpu\n" in (ROOT / "services" / "embedder" / "Dockerfile").read_text()
    assert "ACCELERATOR: ${SLUICE_ACCELERATOR:-cpu}" in (ROOT / "docker-compose.yml").read_text()
