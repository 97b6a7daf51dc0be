"""Metrics of each model's inferences: ours, and times by the names that KServe's model server gives them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Histogram

from shared.telemetry.metrics import SECONDS, BoundedLabel

__all__ = ["POSTPROCESS", "PREDICT", "PREPROCESS", "counted", "model_labels"]

INFERENCES = Counter(
    "sluice_predictor_inferences_total",
    "Inferences by how they ended: answered or failed.",
    ("model", "version", "outcome"),
)
PREPROCESS = Histogram(
    "request_preprocess_seconds", "Time to read the tensors of an inference.", ("model_name",), buckets=SECONDS
)
PREDICT = Histogram(
    "request_predict_seconds",
    "Time for which a model in memory had an inference, its wait for a batch included.",
    ("model_name",),
    buckets=SECONDS,
)
POSTPROCESS = Histogram(
    "request_postprocess_seconds", "Time to write the tensors of an answer.", ("model_name",), buckets=SECONDS
)

model_labels: Final = BoundedLabel(500)
"""The label of a model, of whatever tenant."""


@contextmanager
def counted(model: str, version: str) -> Iterator[None]:
    """Count the block as an inference, by whether it raises. `model` is a label."""
    outcome = "failed"
    try:
        yield
        outcome = "answered"
    finally:
        INFERENCES.labels(model, version if model != model_labels.OTHER else "", outcome).inc()
