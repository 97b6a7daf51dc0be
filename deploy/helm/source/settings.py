"""Settings as values: variables of a container, and the data of the ConfigMap that all services read."""

from typing import Any, Final

from deploy.helm.source.options import GPU, KEDA, OPTIONS, PREDICTOR_GPU, QDRANT, S3, TRACING
from deploy.helm.source.trees import ABSENT, Choice, Inline, Lines, Tree, more

__all__ = ["DERIVED", "FIXED", "environment", "settings_data"]

FIXED: Final = ("SLUICE_NATS_USER", "SLUICE_ADMIN_KEY_FILE", "SLUICE_METRICS_HOST", "SLUICE_METRICS_PORT")
"""What other places of the manifests depend on, so it is no value."""

DERIVED: Final = {
    "SLUICE_REPLICAS": "(.Values.nats.replicas | int | toString)",
    "SLUICE_KUBERNETES_NAMESPACE": ".Values.commands.namespace",
}
"""Settings that follow from another value."""

INDEX_SECRETS: Final = {
    "sluice-index-s3": ".Values.index.s3.secret",
    "sluice-index-qdrant": ".Values.index.qdrant.secret",
}
"""The values with the names of the index's Secrets."""

SOURCES: Final = {
    KEDA: ".Values.keda.settings",
    GPU: ".Values.gpu.{service}.settings",
    PREDICTOR_GPU: ".Values.gpu.predictor.settings",
    S3: ".Values.index.s3.settings",
    QDRANT: ".Values.index.qdrant.settings",
    TRACING: ".Values.tracing.settings",
}
"""The values with the settings of an option. Those of other options are in the template."""


def settings_data(data: Tree) -> Tree:
    """The data of the ConfigMap."""
    return {_range(data, ".Values.settings", "", ("{{ $name }}: {{ $value | quote }}",)): None}


def environment(service: str, entries: list[Tree], canary: str = "") -> list[Tree]:
    """The variables of a container: settings by name, and what is not a plain value as it is.

    `canary` are the values of a canary: its settings come before all others.
    """
    plain: dict[str, Tree] = {}
    others: list[Tree] = []
    for entry in entries:
        inner = entry.then if isinstance(entry, Choice) else entry
        if inner["name"] in FIXED or "value" not in inner:
            others.append(_credential(entry))
        else:
            plain[inner["name"]] = (
                Choice(entry.condition, inner["value"]) if isinstance(entry, Choice) else inner["value"]
            )
    lines = ("- name: {{ $name }}", "  value: {{ $value | quote }}")
    settings = _range(plain, f".Values.{service}.settings", service, lines, canary)
    extra = [more(f"{values}.extraEnv") for values in (f".Values.{service}", canary) if values]
    return [*others, settings, *extra]


def _credential(entry: Tree) -> Tree:
    """A variable from a Secret of the index: none where there is no key. Any other one is as it was."""
    inner = entry.then if isinstance(entry, Choice) else entry
    found = inner.get("valueFrom", {}).get("secretKeyRef", {})
    values = INDEX_SECRETS.get(found.get("name", ""))
    if values is None or not isinstance(entry, Choice):
        return entry
    kept = {**inner, "valueFrom": {"secretKeyRef": {**found, "name": Inline(f"{{{{ {values} }}}}")}}}
    return Choice(f"and ({entry.condition}) {values}", kept)


def _range(plain: dict[str, Tree], values: str, service: str, each: tuple[str, ...], canary: str = "") -> Lines:
    lines = [f"{{{{- $settings := {values} }}}}"]
    if derived := [name for name in plain if name in DERIVED]:
        pairs = " ".join(f'"{name}" {DERIVED[name]}' for name in derived)
        lines.append(f"{{{{- $settings = merge (dict {pairs}) $settings }}}}")
    for condition, named in _by_condition({k: v for k, v in plain.items() if k not in DERIVED}).items():
        source = SOURCES.get(condition, "").format(service=service) or _literal(named)
        lines += [f"{{{{- if {condition} }}}}", f"{{{{- $settings = merge (dict) {source} $settings }}}}", "{{- end }}"]
    if canary:
        variant = {name: value for name, value in plain.items() if name.endswith("_VARIANT")}
        lines.append(f"{{{{- $settings = merge {_literal(variant)} {canary}.settings $settings }}}}")
    return Lines((*lines, "{{- range $name, $value := $settings }}", *each, "{{- end }}"))


def _by_condition(plain: dict[str, Tree]) -> dict[str, dict[str, Any]]:
    """What each condition sets, in the order of the options: of two that hold, the later one counts."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in plain.items():
        rest = value
        while isinstance(rest, Choice):
            if rest.then is not ABSENT:
                found.setdefault(rest.condition, {})[name] = rest.then
            rest = rest.otherwise
    order = [option.condition for option in OPTIONS]
    return dict(sorted(found.items(), key=lambda pair: order.index(pair[0])))


def _literal(named: dict[str, Any]) -> str:
    return "(dict " + " ".join(f'"{name}" "{value}"' for name, value in named.items()) + ")"
