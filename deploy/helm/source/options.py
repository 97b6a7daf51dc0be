"""The components of deploy/k8s that the chart knows as options, and the objects that come of them."""

from dataclasses import dataclass
from typing import Final

from deploy.helm.source.renderings import Key, kustomize
from deploy.helm.source.trees import ABSENT, Tree, merge

__all__ = ["GPU", "KEDA", "ONE_NODE", "OPTIONS", "S3", "TRACING", "Option", "trees"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One component, or of an overlay the objects of some services, under a condition on the values."""

    condition: str
    component: str = ""
    after: tuple[str, ...] = ()
    """Components that come before this one: only what it changes beyond them is its own."""
    overlay: str = ""
    kinds: frozenset[str] = frozenset()
    """Only these kinds; empty: all."""
    services: frozenset[str] = frozenset()
    """Only objects with these names in app.kubernetes.io/name; empty: all."""

    def concerns(self, kind: str, thing: Tree) -> bool:
        service = thing["metadata"].get("labels", {}).get("app.kubernetes.io/name", "")
        named = not self.services or service in self.services or thing["metadata"]["name"].startswith("nats-")
        return (not self.kinds or kind in self.kinds) and named


KEDA: Final = ".Values.keda.enabled"
GPU: Final = ".Values.gpu.enabled"
DRA: Final = "and .Values.gpu.enabled .Values.gpu.dra.enabled"
SPOT: Final = ".Values.spot.enabled"
BACKUP: Final = ".Values.backup.enabled"
BACKUP_S3: Final = 'and .Values.backup.enabled (eq .Values.backup.storage "s3")'
S3: Final = 'eq .Values.index.storage "s3"'
TRACING: Final = ".Values.tracing.enabled"
ONE_NODE: Final = "eq (int .Values.nats.replicas) 1"

OPTIONS: Final = (
    Option(condition=KEDA, component="keda"),
    Option(condition=GPU, component="gpu"),
    Option(condition=DRA, component="gpu-dra", after=("gpu",)),
    Option(condition=SPOT, component="spot"),
    Option(condition=f"and {GPU} {SPOT}", component="spot-gpu", after=("gpu", "spot")),
    Option(condition='eq .Values.index.storage "rwx"', component="index-rwx"),
    Option(condition=S3, component="index-s3"),
    Option(condition=BACKUP, component="backup"),
    Option(condition=BACKUP_S3, component="backup-s3", after=("backup",)),
    Option(condition=ONE_NODE, overlay="overlays/local", services=frozenset({"nats"})),
    Option(condition=".Values.nats.exporter.enabled", component="nats-exporter"),
    Option(condition=".Values.nats.certManager.enabled", component="cert-manager-nats"),
    Option(condition=".Values.outside.enabled", component="outside"),
    Option(condition=TRACING, component="tracing"),
    Option(condition=".Values.priorities.enabled", component="priorities"),
    # The chart has requests in its values, so it takes only the bounds.
    Option(condition=".Values.quota.enabled", component="quota", kinds=frozenset({"ResourceQuota", "LimitRange"})),
    Option(condition=".Values.ingress.enabled", component="ingress"),
    Option(condition=".Values.gatewayApi.enabled", component="gateway-api"),
    Option(condition=".Values.certManager.enabled", component="cert-manager"),
    Option(condition=".Values.podMonitor.enabled", component="podmonitor"),
    Option(condition=".Values.prometheusRule.enabled", component="prometheusrule"),
    Option(condition=".Values.externalSecrets.enabled", component="external-secrets"),
)


def trees() -> dict[Key, Tree]:
    """Each object of the base and of any option, with conditions where options change it."""
    found: dict[Key, Tree] = dict(kustomize())
    for option in OPTIONS:
        unchanged = kustomize(*option.after)
        changed = kustomize(resource=option.overlay) if option.overlay else kustomize(*option.after, option.component)
        for key in {**unchanged, **changed}:
            before, after = unchanged.get(key, ABSENT), changed.get(key, ABSENT)
            if option.concerns(key[0], before if after is ABSENT else after):
                found[key] = merge(before, after, found.get(key, ABSENT), option.condition)
    return {key: tree for key, tree in found.items() if tree is not ABSENT}
