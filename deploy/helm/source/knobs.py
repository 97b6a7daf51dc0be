"""Where values enter: the places of objects that an operator sets."""

import re
from typing import Any, Final

from deploy.helm.source.options import CANARY, GPU, PREDICTOR_GPU
from deploy.helm.source.renderings import Key
from deploy.helm.source.settings import FIXED, environment, settings_data
from deploy.helm.source.trees import ABSENT, Block, Choice, Inline, Lines, Tree, more

__all__ = ["SERVICES", "with_values"]

SERVICES: Final = ("gateway", "embedder", "retriever", "generator", "scheduler", "predictor")

TEXTS: Final = (
    (re.compile(r"(?<=[\w-])\.sluice\.svc\b"), ".{{ .Release.Namespace }}.svc"),
    (re.compile(r'namespace="sluice"'), 'namespace="{{ .Release.Namespace }}"'),
    (re.compile(r"^sluice\.example\.com$"), "{{ .Values.host }}"),
    (re.compile(r"^sluice-gateway-tls$"), "{{ .Values.tlsSecret }}"),
)
"""What stands for a value inside any string."""

NAMESPACES: Final = {
    "sluice": "{{ .Release.Namespace }}",
    "sluice-commands": "{{ .Values.commands.namespace }}",
    "monitoring": "{{ .Values.monitoring.namespace }}",
    "keda": "{{ .Values.keda.namespace }}",
}
KEEP: Final = {"helm.sh/resource-policy": "keep"}
"""The annotation of what `helm uninstall` leaves: it holds documents or models."""


def with_values(key: Key, tree: Tree) -> Tree:
    """An object with values in the places that an operator sets."""
    if isinstance(tree, Choice):
        return Choice(tree.condition, _branch(key, tree.then), _branch(key, tree.otherwise))
    tree = _with_texts(tree, "")
    kind, _, name = key
    metadata = {"labels": {}, **tree["metadata"]}
    metadata["labels"] = {**metadata["labels"], Lines(('{{- include "sluice.labels" . | nindent INDENT }}',)): None}
    tree = {**tree, "metadata": metadata}
    if kind == "Deployment":
        return _deployment(name, tree)
    change = KINDS.get((kind, name)) or KINDS.get((kind, ""))
    return change(name, tree) if change else tree


def _branch(key: Key, tree: Tree) -> Tree:
    return ABSENT if tree is ABSENT else with_values(key, tree)


def _with_texts(tree: Tree, key: str) -> Tree:
    """The tree, with expressions in place of namespaces, hosts and the like."""
    match tree:
        case dict():
            return {name: _with_texts(member, name) for name, member in tree.items()}
        case list():
            return [_with_texts(item, key) for item in tree]
        case Choice(condition, then, otherwise):
            return Choice(condition, _with_texts(then, key), _with_texts(otherwise, key))
        case str() if key in ("namespace", "kubernetes.io/metadata.name") and tree in NAMESPACES:
            return Inline(NAMESPACES[tree])
        case str():
            return _text(tree)
    return tree


def _text(value: str) -> Tree:
    text = value.replace("{{", '{{ "{{" }}')
    for pattern, expression in TEXTS:
        text = pattern.sub(expression, text)
    return value if text == value.replace("{{", '{{ "{{" }}') else Inline(text)


# Workloads


def _deployment(name: str, tree: Tree) -> Tree:
    """The Deployment of a service, or of a stage's canary, which has the values of its stage and some of its own."""
    service = name.removesuffix(f"-{CANARY}")
    values = f".Values.{service}"
    own = f".Values.{CANARY}.{service}" if name != service else ""
    replicas = Inline(f"{{{{ {own or values}.replicas }}}}")
    fixed = replicas if own else Choice(f"not {values}.autoscaling.enabled", replicas)
    tree = {**tree, "spec": {**tree["spec"], "replicas": fixed}}
    template = dict(tree["spec"]["template"])
    template["metadata"] = _template_metadata(values, template["metadata"], "settings", "settings.yaml")
    pod = _placed(values, template["spec"])
    grace = f"{values}.terminationGracePeriodSeconds"
    pod["terminationGracePeriodSeconds"] = Choice(
        grace, Inline(f"{{{{ {grace} }}}}"), pod["terminationGracePeriodSeconds"]
    )
    pod["containers"] = [_container(service, own, c) if _name(c) == service else c for c in pod["containers"]]
    pod["volumes"] = [*pod["volumes"], more(f"{values}.extraVolumes")]
    return {**tree, "spec": {**tree["spec"], "template": {**template, "spec": pod}}}


def _container(name: str, own: str, container: Tree) -> Tree:
    """The container of a service, or of its canary with values of its own; one beside it stays as it is."""
    variant = f' "{CANARY}"' if own else ""
    image = Inline(f'{{{{ include "sluice.image" (list . "{name}"{variant}) }}}}')
    mounts = [*container["volumeMounts"], more(f".Values.{name}.extraVolumeMounts")]
    resources = _resources(name, container["resources"])
    if own:
        resources = Choice(f"{own}.resources", Block(f"{own}.resources"), resources)
    changed = {"image": image, "imagePullPolicy": PULL_POLICY, "resources": resources, "volumeMounts": mounts}
    return {**container, **changed, "env": environment(name, container["env"], own)}


def _name(item: Tree) -> str:
    return str(item.then["name"] if isinstance(item, Choice) else item["name"])


PULL_POLICY: Final = Choice(".Values.imagePullPolicy", Inline("{{ .Values.imagePullPolicy }}"))


def _template_metadata(values: str, metadata: Tree, checksum: str, file: str) -> Tree:
    """The metadata of Pods: a checksum restarts them when their ConfigMap changes."""
    hashed = Inline(f'{{{{ include (print $.Template.BasePath "/{file}") . | sha256sum }}}}')
    annotations = metadata.get("annotations", {})
    if isinstance(annotations, Choice):
        annotations = {key: Choice(annotations.condition, value) for key, value in annotations.then.items()}
    annotations = {f"checksum/{checksum}": hashed, **annotations, more(f"{values}.podAnnotations"): None}
    labels = {**metadata["labels"], more(f"{values}.podLabels"): None}
    return {**metadata, "annotations": annotations, "labels": labels}


def _placed(values: str, pod: Tree) -> dict[Any, Any]:
    """The Pod's spec, with what decides about its node. A value takes the place of what is there."""
    placed = {**pod, "imagePullSecrets": Choice(".Values.imagePullSecrets", Block(".Values.imagePullSecrets"))}
    for field in ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints"):
        placed[field] = Choice(f"{values}.{field}", Block(f"{values}.{field}"), placed.get(field, ABSENT))
    own = f"{values}.priorityClassName"
    placed["priorityClassName"] = Choice(own, Inline(f"{{{{ {own} }}}}"), placed.get("priorityClassName", ABSENT))
    return placed


def _resources(name: str, resources: Tree) -> Tree:
    own = Block(f".Values.{name}.resources")
    # A GPU comes with more memory and cores, so the option has resources of its own.
    changed = any(isinstance(value, Choice) for kind in resources.values() for value in kind.values())
    enabled = PREDICTOR_GPU if name == "predictor" else GPU
    return Choice(enabled, Block(f".Values.gpu.{name}.resources"), own) if changed else own


def _broker(_: str, tree: Tree) -> Tree:
    values = ".Values.nats"
    spec = {**tree["spec"], "replicas": Inline("{{ .Values.nats.replicas }}")}
    template = dict(spec["template"])
    template["metadata"] = _template_metadata(values, template["metadata"], "config", "nats/configmap.yaml")
    pod = _placed(values, template["spec"])
    pod["containers"] = [_broker_container(container) for container in pod["containers"]]
    (claim,) = spec["volumeClaimTemplates"]
    claim = {**claim, "spec": _claim(f"{values}.storage", claim["spec"])}
    return {**tree, "spec": {**spec, "template": {**template, "spec": pod}, "volumeClaimTemplates": [claim]}}


def _broker_container(container: Tree) -> Tree:
    """The broker's container and its exporter; another one stays as it is."""
    if isinstance(container, Choice):
        return Choice(container.condition, _broker_container(container.then), container.otherwise)
    values = {"nats": ".Values.nats", "exporter": ".Values.nats.exporter"}.get(container["name"])
    if values is None:
        return container
    image = Inline(f'{{{{ include "sluice.otherImage" {values}.image }}}}')
    changed = {"image": image, "imagePullPolicy": PULL_POLICY, "resources": Block(f"{values}.resources")}
    if container["name"] == "nats":
        changed["env"] = [_broker_variable(entry) for entry in container["env"]]
    return {**container, **changed}


def _broker_variable(entry: Tree) -> Tree:
    values = {"FILE_STORE": "storage.fileStore", "GOMEMLIMIT": "goMemoryLimit"}
    if entry["name"] not in values:
        return entry
    return {"name": entry["name"], "value": Inline(f"{{{{ .Values.nats.{values[entry['name']]} | quote }}}}")}


def _claim(values: str, spec: Tree) -> Tree:
    """The spec of a claim with the size and class of these values."""
    named = Choice(f"{values}.storageClassName", Inline(f"{{{{ {values}.storageClassName }}}}"))
    requests = {"requests": {"storage": Inline(f"{{{{ {values}.size }}}}")}}
    return {**spec, "resources": requests, "storageClassName": named}


# Other kinds


def _backup(_: str, tree: Tree) -> Tree:
    """The CronJob: onto a volume, or into a bucket with settings and a Secret of its own."""
    values = ".Values.backup"
    spec = {**tree["spec"], "schedule": Inline(f"{{{{ {values}.schedule | quote }}}}")}
    job = spec["jobTemplate"]
    template = job["spec"]["template"]
    secrets = Choice(".Values.imagePullSecrets", Block(".Values.imagePullSecrets"))
    pod = {**template["spec"], "imagePullSecrets": secrets}
    (container,) = pod["containers"]
    place, env = "/backups", container["env"]
    if credentials := [entry for entry in env if "valueFrom" in entry]:
        settings = f"{{{{- range $name, $value := {values}.s3.settings }}}}"
        each = ("- name: {{ $name }}", "  value: {{ $value | quote }}")
        user = [entry for entry in env if entry["name"] in FIXED]
        env = [*user, *map(_backup_credential, credentials), Lines((settings, *each, "{{- end }}"))]
        place = Inline(f"{{{{ {values}.s3.uri }}}}")
    changed = {
        "image": Inline('{{ include "sluice.image" (list . "retriever") }}'),
        "imagePullPolicy": PULL_POLICY,
        "args": ["create", "--keep", Inline(f"{{{{ {values}.keep | quote }}}}"), place],
        "env": env,
        "resources": Block(f"{values}.resources"),
    }
    pod["containers"] = [{**container, **changed}]
    job = {**job, "spec": {**job["spec"], "template": {**template, "spec": pod}}}
    return {**tree, "spec": {**spec, "jobTemplate": job}}


def _backup_credential(entry: Tree) -> Tree:
    """A variable from the Secret: none where the account has a role."""
    values = ".Values.backup.s3.secret"
    reference = {**entry["valueFrom"]["secretKeyRef"], "name": Inline(f"{{{{ {values} }}}}")}
    return Choice(values, {**entry, "valueFrom": {"secretKeyRef": reference}})


VOLUMES: Final = {
    "index": ".Values.index",
    "models": ".Values.gpu.models",
    "backups": ".Values.backup",
    "repository": ".Values.predictor.repository",
}


def _volume(name: str, tree: Tree) -> Tree:
    values = VOLUMES[name]
    metadata = {**tree["metadata"], "annotations": KEEP}
    return {**tree, "metadata": metadata, "spec": _claim(values, tree["spec"])}


def _autoscaler(name: str, tree: Tree) -> Tree:
    values = f".Values.{name}.autoscaling"
    spec = {**tree["spec"]}
    if tree["kind"] == "ScaledObject":
        spec["minReplicaCount"] = Inline("{{ .Values.keda.minReplicas }}")
        spec["maxReplicaCount"] = Inline(f"{{{{ {values}.maxReplicas }}}}")
    else:
        spec |= {f"{end}Replicas": Inline(f"{{{{ {values}.{end}Replicas }}}}") for end in ("min", "max")}
    return Choice(f"{values}.enabled", {**tree, "spec": spec})


def _account(name: str, tree: Tree) -> Tree:
    if name not in (*SERVICES, "nats", "backup"):
        return tree
    annotations = Choice(
        f".Values.{name}.serviceAccountAnnotations", Block(f".Values.{name}.serviceAccountAnnotations")
    )
    return {**tree, "metadata": {**tree["metadata"], "annotations": annotations}}


def _api_server(_: str, tree: Tree) -> Tree:
    (rule,) = tree["spec"]["egress"]
    lines = Lines(("{{- range .Values.apiServerCidrs }}", "- ipBlock:", "    cidr: {{ . }}", "{{- end }}"))
    return {**tree, "spec": {**tree["spec"], "egress": [{**rule, "to": [lines]}]}}


def _namespace(name: str, tree: Tree) -> Tree:
    own = name == "sluice"
    metadata = {**tree["metadata"], "name": Inline(NAMESPACES[name])}
    return Choice(
        ".Values.createNamespace" if own else ".Values.commands.createNamespace", {**tree, "metadata": metadata}
    )


def _settings(_: str, tree: Tree) -> Tree:
    return {**tree, "data": settings_data(tree["data"])}


def _ingress(name: str, tree: Tree) -> Tree:
    values = ".Values.ingress.annotations" if name == "gateway" else ".Values.ingress.grpcAnnotations"
    metadata = {**tree["metadata"], "annotations": Block(values)}
    return {
        **tree,
        "metadata": metadata,
        "spec": {**tree["spec"], "ingressClassName": Inline("{{ .Values.ingress.className }}")},
    }


def _gateway(_: str, tree: Tree) -> Tree:
    return {**tree, "spec": {**tree["spec"], "gatewayClassName": Inline("{{ .Values.gatewayApi.className }}")}}


def _certificate(_: str, tree: Tree) -> Tree:
    return {**tree, "spec": {**tree["spec"], "issuerRef": Block(".Values.certManager.issuer")}}


def _monitored(_: str, tree: Tree) -> Tree:
    values = ".Values.podMonitor" if tree["kind"] == "PodMonitor" else ".Values.prometheusRule"
    labels = {**tree["metadata"]["labels"], more(f"{values}.labels"): None}
    return {**tree, "metadata": {**tree["metadata"], "labels": labels}}


def _external(_: str, tree: Tree) -> Tree:
    return {**tree, "spec": {**tree["spec"], "secretStoreRef": Block(".Values.externalSecrets.store")}}


def _quota(_: str, tree: Tree) -> Tree:
    return {**tree, "spec": {"hard": Block(".Values.quota.hard")}}


KINDS: Final = {
    ("StatefulSet", "nats"): _broker,
    ("CronJob", "backup"): _backup,
    ("PersistentVolumeClaim", ""): _volume,
    ("HorizontalPodAutoscaler", ""): _autoscaler,
    ("ScaledObject", ""): _autoscaler,
    ("ServiceAccount", ""): _account,
    ("NetworkPolicy", "scheduler-to-api-server"): _api_server,
    ("Namespace", ""): _namespace,
    ("ConfigMap", "sluice-settings"): _settings,
    ("Ingress", ""): _ingress,
    ("Gateway", "sluice"): _gateway,
    ("Certificate", "sluice-gateway"): _certificate,
    ("PodMonitor", ""): _monitored,
    ("PrometheusRule", ""): _monitored,
    ("ExternalSecret", ""): _external,
    ("ResourceQuota", "sluice"): _quota,
}
"""What is done for a kind, or for one object of it."""
