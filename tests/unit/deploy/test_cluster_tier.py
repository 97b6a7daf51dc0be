"""What can be said of the cluster tier without a cluster."""

import ast
import subprocess
from typing import Any

import pytest
import yaml

from tests.cluster import load, platform, test_operations
from tests.harness.manifests import K8S, render
from tests.harness.paths import ROOT

TIER = ROOT / "tests" / "cluster"
WORKFLOW = ROOT / ".github" / "workflows" / "cluster.yaml"


def steps() -> list[dict[str, Any]]:
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return list(job["steps"])


@pytest.mark.parametrize(("config", "says"), [("", "Name a cluster"), ("/no/such/file", "There is no file")])
def test_make_cluster_refuses_clearly_where_there_is_none(config: str, says: str) -> None:
    done = subprocess.run(["make", "kubeconfig", f"KUBECONFIG={config}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert says in done.stdout


def test_the_broker_of_three_nodes_is_the_bases() -> None:
    copied, own = TIER / "three-nodes" / "cluster.conf", K8S / "base" / "sluice" / "nats" / "cluster.conf"
    assert copied.read_text() == own.read_text()
    manifests = render("../../tests/cluster/three-nodes")
    assert manifests.get("StatefulSet", "nats")["spec"]["replicas"] == 3
    assert manifests.settings(manifests.deployment("gateway"))["SLUICE_REPLICAS"] == "3"


def test_the_load_needs_only_what_the_gateways_image_has() -> None:
    tree = ast.parse((TIER / "load.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"asyncio", "json", "os", "time", "httpx"}


def test_every_operation_of_the_tier_has_a_test() -> None:
    names = [name for name in vars(test_operations) if name.startswith("test_")]
    for word in ("restart", "undo", "forced_deletion", "kill", "password", "certificate", "away"):
        assert any(word in name for name in names), word
    assert platform.SERVICES == ("gateway", "embedder", "retriever", "generator", "scheduler")
    assert load.RATE == 6


def test_the_workflow_installs_as_the_page_says_and_applies_what_exists() -> None:
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    for overlay in job["strategy"]["matrix"]["overlay"]:
        assert (ROOT / overlay / "kustomization.yaml").exists()
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (install,) = (step["run"] for step in steps() if step.get("name") == "Install Sluice")
    for line in install.splitlines():
        if "-f " in line or "create secret" in line:
            assert line in page
