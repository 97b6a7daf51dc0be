"""The files of the chart that the program writes."""

from pathlib import Path
from typing import Final

from deploy.helm.source.knobs import SERVICES, with_values
from deploy.helm.source.options import trees
from deploy.helm.source.renderings import Key
from deploy.helm.source.trees import Choice, Tree
from deploy.helm.source.values import values_text
from deploy.helm.source.writer import HEAD, document

__all__ = ["CHART", "files", "write"]

CHART: Final = Path(__file__).parents[1] / "sluice"


def files() -> dict[str, str]:
    """The text of each file under its path in the chart."""
    grouped: dict[str, list[Tree]] = {}
    for key, tree in trees().items():
        grouped.setdefault(_path(key, tree), []).append(with_values(key, tree))
    templates = {f"templates/{path}": document(objects) for path, objects in grouped.items()}
    return {**templates, "values.yaml": values_text()}


def write() -> None:
    """Write all files, and remove templates that an earlier call wrote and this one does not."""
    found = files()
    for old in (CHART / "templates").rglob("*.yaml"):
        if old.read_text().startswith(HEAD) and str(old.relative_to(CHART)) not in found:
            old.unlink()
    for path, text in found.items():
        (CHART / path).parent.mkdir(parents=True, exist_ok=True)
        (CHART / path).write_text(text)


def _path(key: Key, tree: Tree) -> str:
    """A folder for each service, for the network policies, for commands; a file for each kind."""
    kind, namespace, name = key
    while isinstance(tree, Choice):
        tree = tree.then if isinstance(tree.then, (dict, Choice)) else tree.otherwise
    service = tree["metadata"].get("labels", {}).get("app.kubernetes.io/name", "")
    if (kind, name) == ("ConfigMap", "sluice-settings"):
        return "settings.yaml"
    if "sluice-commands" in (namespace, name):
        return f"commands/{kind.lower()}.yaml"
    if kind == "NetworkPolicy":
        return f"network/{name}.yaml"
    if name == "nats-config":
        return "nats/configmap.yaml"
    if service in (*SERVICES, "nats"):
        return f"{service}/{kind.lower()}.yaml"
    return f"{kind.lower()}.yaml"
