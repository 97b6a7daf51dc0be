"""What the scheduler and the program that trains say to each other.

The scheduler hands over an order in the environment. The program prints lines: `::output::` and `::progress::` as any
command does, metrics, and the problem that ends it.
"""

from typing import Final

from shared.contracts.envelope import Tenant
from shared.contracts.jobs.kinds.train import TrainSpec
from shared.contracts.wire import Wire

__all__ = ["METRICS", "NODES", "ORDER", "PROBLEM", "TrainingMetrics", "TrainingOrder"]

ORDER: Final = "SLUICE_TRAINING_ORDER"
"""The variable that holds the order as JSON. There is nothing secret in it."""

NODES: Final = "SLUICE_TRAINING_NODES"
"""How many machines share the training, where there are several. JOB_COMPLETION_INDEX numbers them, and SLUICE_JOB_HOST
names the first."""

METRICS: Final = "::metrics::"
PROBLEM: Final = "::problem::"
"""How lines begin that go on with a `TrainingMetrics`, or with the details of a problem, as JSON."""


class TrainingOrder(Wire):
    """A job to do. `base` and `teacher` are what the scheduler has made of the spec's: a folder, a name, or a model of
    the store."""

    job: str
    tenant: Tenant
    by: str = ""
    base: str = ""
    teacher: str = ""
    spec: TrainSpec


class TrainingMetrics(Wire):
    """Values of metrics after a step. One that is not finite is null."""

    step: int
    values: dict[str, float | None]
