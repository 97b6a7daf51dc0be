"""Commands as Kubernetes Jobs. Whoever imports this loads the Kubernetes client, which takes about a second."""

from services.scheduler.executors.kubernetes.executor import KubernetesExecutor
from services.scheduler.executors.kubernetes.sweeper import sweep

__all__ = ["KubernetesExecutor", "sweep"]
