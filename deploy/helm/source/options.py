"""The components of deploy/k8s that the chart knows as options, and the objects that come of them."""

from dataclasses import dataclass, replace
from typing import Final

from deploy.helm.source.renderings import Key, kustomize
from deploy.helm.source.trees import ABSENT, Choice, Tree, merge

__all__ = [
    "CANARY",
    "GPU",
    "KEDA",
    "ONE_NODE",
    "OPTIONS",
    "PREDICTOR_GPU",
    "QDRANT",
    "S3",
    "TRACING",
    "Option",
    "trees",
]


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
    variant: str = ""
    """Only objects of this variant of a stage."""
    within: bool = False
    """Whether what it changes is under a condition already, and stays under that too."""

    def concerns(self, kind: str, thing: Tree) -> bool:
        labels = thing["metadata"].get("labels", {})
        service = labels.get("app.kubernetes.io/name", "")
        part = "nats" in self.services and thing["metadata"]["name"].startswith("nats-")
        named = not self.services or service in self.services or part
        of_variant = self.variant == labels.get("sluice.io/variant", "")
        return (not self.kinds or kind in self.kinds) and named and of_variant


PREDICTOR: Final = ".Values.predictor.enabled"
PREDICTOR_GPU: Final = "and .Values.predictor.enabled .Values.gpu.predictor.enabled"
KEDA: Final = ".Values.keda.enabled"
GPU: Final = ".Values.gpu.enabled"
DRA: Final = "and .Values.gpu.enabled .Values.gpu.dra.enabled"
SPOT: Final = ".Values.spot.enabled"
BACKUP: Final = ".Values.backup.enabled"
BACKUP_S3: Final = 'and .Values.backup.enabled (eq .Values.backup.storage "s3")'
S3: Final = 'eq .Values.index.storage "s3"'
QDRANT: Final = 'eq .Values.index.storage "qdrant"'
TRACING: Final = ".Values.tracing.enabled"
ONE_NODE: Final = "eq (int .Values.nats.replicas) 1"

PREDICTORS: Final = frozenset({"predictor"})

CANARY: Final = "canary"
CANARIES: Final = tuple(f"{CANARY}/{stage}" for stage in ("embedder", "retriever", "generator"))

OF_STAGES: Final = (
    Option(condition=PREDICTOR, component="predictor"),
    Option(condition=KEDA, component="keda"),
    Option(condition=GPU, component="gpu"),
    Option(condition=DRA, component="gpu-dra", after=("gpu",)),
    Option(condition=SPOT, component="spot"),
    Option(condition=f"and {GPU} {SPOT}", component="spot-gpu", after=("gpu", "spot")),
    Option(condition='eq .Values.index.storage "rwx"', component="index-rwx"),
    Option(condition=S3, component="index-s3"),
    Option(condition=QDRANT, component="index-qdrant"),
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
    # What these change of the predictor, which is there only with its own option.
    Option(
        condition=f"and {PREDICTOR} {KEDA}",
        component="predictor-keda",
        after=("predictor", "keda"),
        kinds=frozenset({"ScaledObject"}),
        services=PREDICTORS,
    ),
    Option(
        condition=KEDA,
        component="predictor-keda",
        after=("predictor", "keda"),
        kinds=frozenset({"HorizontalPodAutoscaler"}),
        services=PREDICTORS,
        within=True,
    ),
    Option(
        condition=PREDICTOR_GPU,
        component="predictor-gpu",
        after=("predictor",),
        services=PREDICTORS,
        within=True,
    ),
    *(
        Option(condition=condition, component=component, after=("predictor",), services=PREDICTORS, within=True)
        for condition, component in (
            (SPOT, "spot"),
            (".Values.nats.certManager.enabled", "cert-manager-nats"),
            (".Values.priorities.enabled", "priorities"),
        )
    ),
    Option(
        condition=f"{PREDICTOR_GPU} {SPOT}",
        component="spot-gpu",
        after=("predictor", "predictor-gpu", "gpu", "spot"),
        services=PREDICTORS,
        within=True,
    ),
)

OPTIONS: Final = (
    *OF_STAGES,
    *(
        Option(condition=f".Values.{component.replace('/', '.')}.enabled", component=component, variant=CANARY)
        for component in CANARIES
    ),
    # A canary is as its stage, so what an option changes of the stage it changes of the canary.
    *(
        replace(option, after=(*CANARIES, *option.after), variant=CANARY, within=True)
        for option in OF_STAGES
        if option.component and not option.services
    ),
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
                found[key] = _merged(before, after, found.get(key, ABSENT), option)
    return {key: tree for key, tree in found.items() if tree is not ABSENT}


def _merged(before: Tree, after: Tree, tree: Tree, option: Option) -> Tree:
    if option.within:
        return Choice(tree.condition, merge(before, after, tree.then, option.condition))
    return merge(before, after, tree, option.condition)
