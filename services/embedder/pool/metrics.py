"""What is measured of models of the store."""

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["EVICTIONS", "LOADED", "LOADS", "LOAD_SECONDS"]

LOADED = Gauge("sluice_embedder_models_loaded", "Models of the store in memory.")
LOADS = Counter(
    "sluice_embedder_model_loads_total", "Models of the store that were to be loaded: loaded or failed.", ("outcome",)
)
LOAD_SECONDS = Histogram(
    "sluice_embedder_model_load_seconds",
    "Time from the first use of a model of the store to its first pass, with its way from the store.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100),
)
EVICTIONS = Counter("sluice_embedder_model_evictions_total", "Models that left memory for others.")
