"""What the serving index tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["BYTES", "COLLECTIONS", "FOLLOWING", "LOADS", "PASSAGES", "SEARCHES"]

BYTES = Gauge("sluice_index_memory_bytes", "Bytes of the collections in memory, files that are mapped included.")
COLLECTIONS = Gauge("sluice_index_memory_collections", "Collections in memory.")
PASSAGES = Gauge("sluice_index_memory_passages", "Passages in memory.")
LOADS = Counter("sluice_index_loads_total", "Collections brought into memory, by source: cache or table.", ["source"])
SEARCHES = Counter("sluice_index_searches_total", "Searches, by what answered: memory or disk.", ["source"])
FOLLOWING = Histogram("sluice_index_follow_seconds", "Time from the look at a new version of a table to its searches.")
