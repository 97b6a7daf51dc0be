"""Every metric that the services can show, with its labels: read from the code, in a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from tests.harness.paths import ROOT

__all__ = ["Metric", "own_metrics", "sample_labels"]


PROGRAM = """
import importlib, json, sys
from pathlib import Path
from prometheus_client import REGISTRY
for folder in ("shared", "services"):
    for path in sorted(Path(folder).rglob("*.py")):
        if "prometheus_client import" in path.read_text():
            importlib.import_module(".".join(path.with_suffix("").parts))
found = {}
for collector, names in REGISTRY._collector_to_names.items():
    for family in collector.describe() if hasattr(collector, "describe") else collector.collect():
        labels = list(getattr(collector, "_labelnames", ()))
        found[family.name] = {"type": family.type, "help": family.documentation, "labels": labels}
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` as it stands in the code, a counter with its `_total`."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...]


@cache
def own_metrics() -> dict[str, Metric]:
    """The services' metrics by name."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    metrics = {}
    for family, told in json.loads(done.stdout).items():
        name = f"{family}_total" if told["type"] == "counter" else family
        metrics[name] = Metric(name=name, type=told["type"], help=told["help"], labels=tuple(told["labels"]))
    return metrics


@cache
def sample_labels() -> dict[str, frozenset[str]]:
    """The labels of every series that a scraper sees, by its name."""
    series: dict[str, frozenset[str]] = {}
    for metric in own_metrics().values():
        labels = frozenset(metric.labels)
        if metric.type == "histogram":
            series |= {f"{metric.name}_bucket": labels | {"le"}}
            series |= dict.fromkeys((f"{metric.name}_sum", f"{metric.name}_count"), labels)
        else:
            series[metric.name] = labels
    return series
