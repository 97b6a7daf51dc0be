"""Settings as values: variables of a container, and the data of the ConfigMap that all services read."""

from typing import Any, Final

from deploy.helm.source.options import GPU, KEDA, OPTIONS, S3, TRACING
from deploy.helm.source.trees import ABSENT, Choice, Inline, Lines, Tree

__all__ = ["DERIVED", "FIXED", "environment", "settings_data"]

FIXED: Final = ("SLUICE_NATS_USER", "SLUICE_ADMIN_KEY_FILE", "SLUICE_METRICS_HOST", "SLUICE_METRICS_PORT")
"""What other places of the manifests depend on, so it is no value."""

DERIVED: Final = {
    "SLUICE_REPLICAS": "(.Values.nats.replicas | int | toString)",
    "SLUICE_KUBERNETES_NAMESPACE": ".Values.commands.namespace",
}
"""Settings that follow from another value."""

INDEX_SECRET: Final = "sluice-index-s3"  # noqa: S105 - the name of a Secret

SOURCES: Final = {
    KEDA: ".Values.keda.settings",
    GPU: ".Values.gpu.{service}.settings",
    S3: ".Values.index.s3.settings",
    TRACING: ".Values.tracing.settings",
}
"""The values with the settings of an option. Those of other options are in the template."""


def settings_data(data: Tree) -> Tree:
    """The data of the ConfigMap."""
    return {_range(data, ".Values.settings", "", ("{{ $name }}: {{ $value | quote }}",)): None}


def environment(service: str, entries: list[Tree]) -> list[Tree]:
    """The variables of a container: settings by name, and what is not a plain value as it is."""
    plain: dict[str, Tree] = {}
    others: list[Tree] = []
    for entry in entries:
        inner = entry.then if isinstance(entry, Choice) else entry
        if inner["name"] in FIXED or "value" not in inner:
            others.append(_credential(entry) if INDEX_SECRET in repr(inner) else entry)
        else:
            plain[inner["name"]] = (
                Choice(entry.condition, inner["value"]) if isinstance(entry, Choice) else inner["value"]
            )
    lines = ("- name: {{ $name }}", "  value: {{ $value | quote }}")
    settings = _range(plain, f".Values.{service}.settings", service, lines)
    extra = f".Values.{service}.extraEnv"
    more = Lines((f"{{{{- with {extra} }}}}", "{{- toYaml . | nindent INDENT }}", "{{- end }}"))
    return [*others, settings, more]


def _credential(entry: Choice) -> Choice:
    """A variable from the Secret of the index: none where the account of the Pod has a role."""
    reference = {**entry.then["valueFrom"]["secretKeyRef"], "name": Inline("{{ .Values.index.s3.secret }}")}
    kept = {**entry.then, "valueFrom": {"secretKeyRef": reference}}
    return Choice(f"and ({entry.condition}) .Values.index.s3.secret", kept)


def _range(plain: dict[str, Tree], values: str, service: str, each: tuple[str, ...]) -> Lines:
    lines = [f"{{{{- $settings := {values} }}}}"]
    if derived := [name for name in plain if name in DERIVED]:
        pairs = " ".join(f'"{name}" {DERIVED[name]}' for name in derived)
        lines.append(f"{{{{- $settings = merge (dict {pairs}) $settings }}}}")
    for condition, named in _by_condition({k: v for k, v in plain.items() if k not in DERIVED}).items():
        source = SOURCES.get(condition, "").format(service=service) or _literal(named)
        lines += [f"{{{{- if {condition} }}}}", f"{{{{- $settings = merge (dict) {source} $settings }}}}", "{{- end }}"]
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
