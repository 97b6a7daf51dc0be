"""The Kubernetes API is open to the scheduler alone, for exactly the calls that its code makes."""

import ast
import inspect

from services.scheduler.commands.kubernetes import cluster
from services.scheduler.commands.kubernetes.kinds import KINDS
from tests.harness.manifests import render

RESOURCES = {
    "custom_object": [(kind.group, kind.plural) for kind in KINDS],
    "pod": [("", "pods")],
    "pod_log": [("", "pods/log")],
    "event": [("", "events")],
    "service": [("", "services")],
}
VERBS = {"create": {"create"}, "get": {"get"}, "read": {"get"}, "delete": {"delete"}, "list": {"list"}}
WATCHED = {"custom_object", "pod"}
"""What is also watched: `Cluster._watched` takes their listings."""

RULES = ("Role", "ClusterRole")
BINDINGS = ("RoleBinding", "ClusterRoleBinding")


def used() -> dict[tuple[str, str], set[str]]:
    """Verbs by resource, from the names of the client's methods that the code calls."""
    found: dict[tuple[str, str], set[str]] = {}
    for node in ast.walk(ast.parse(inspect.getsource(cluster))):
        if isinstance(node, ast.Attribute) and "_namespaced_" in node.attr:
            verb, _, thing = node.attr.removesuffix("_without_preload_content").partition("_namespaced_")
            watch = {"watch"} if verb == "list" and thing in WATCHED else set()
            for resource in RESOURCES[thing]:
                found.setdefault(resource, set()).update(VERBS[verb] | watch)
    return found


def test_the_scheduler_may_do_what_its_code_does_and_no_more() -> None:
    role = render("base").get("Role", "scheduler", "sluice-commands")
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == used()


def test_nobody_else_has_any_rights() -> None:
    manifests = render("base")
    assert [(r["kind"], r["metadata"]["name"]) for r in manifests.of(*RULES)] == [("Role", "scheduler")]
    (binding,) = manifests.of(*BINDINGS)
    assert binding["kind"] == "RoleBinding"
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "scheduler"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "scheduler", "namespace": "sluice"}]


def test_commands_run_apart_from_what_the_platform_keeps() -> None:
    manifests = render("base")
    where = manifests.settings(manifests.deployment("scheduler"))["SLUICE_KUBERNETES_NAMESPACE"]
    role = manifests.get("Role", "scheduler", where)
    assert role["metadata"]["namespace"] != manifests.deployment("scheduler")["metadata"]["namespace"]
    inside = [thing["kind"] for thing in manifests.objects if thing["metadata"].get("namespace") == where]
    assert not {"ServiceAccount", "Secret", "Deployment", "PersistentVolumeClaim"} & set(inside)
