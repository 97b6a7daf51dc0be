"""Metrics of calls that other predictors answer."""

from prometheus_client import Counter

__all__ = ["FORWARDED"]

FORWARDED = Counter(
    "sluice_predictor_forwarded_total",
    "Inferences given to a predictor that has the model in memory, by outcome: answered, refused, or lost with it.",
    ["outcome"],
)
