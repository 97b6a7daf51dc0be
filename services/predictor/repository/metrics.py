"""Metrics of the models in memory."""

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["LOADED_MODELS", "LOADS", "LOAD_SECONDS", "MODEL_BYTES", "USES"]

LOADED_MODELS = Gauge("sluice_predictor_models_loaded", "Models in memory.")
MODEL_BYTES = Gauge("sluice_predictor_models_bytes", "Memory of the loaded models, as it was measured.")
LOADS = Counter(
    "sluice_predictor_loads_total", "Loads of models by their outcome: loaded, failed, or evicted later.", ["outcome"]
)
USES = Counter("sluice_predictor_uses_total", "Requests by their model: loaded, loading, or absent.", ["found"])
LOAD_SECONDS = Histogram(
    "sluice_predictor_load_seconds",
    "From the first request for a model that is not in memory until it is.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
