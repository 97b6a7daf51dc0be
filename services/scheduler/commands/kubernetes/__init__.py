"""Commands as Kubernetes Jobs. Importing this package loads the Kubernetes client, which takes about a second."""

from services.scheduler.commands.kubernetes.executor import KubernetesExecutor
from services.scheduler.commands.kubernetes.sweeper import sweep

__all__ = ["KubernetesExecutor", "sweep"]
