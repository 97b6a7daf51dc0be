"""The alerts as an object of the Prometheus Operator."""

from pathlib import Path
from textwrap import indent
from typing import Final

__all__ = ["ALERTS", "RULE", "prometheus_rule"]

ALERTS: Final = Path(__file__).parents[1] / "alerts.yaml"
RULE: Final = Path(__file__).parents[2] / "k8s" / "components" / "prometheusrule" / "rule.yaml"

HEAD: Final = """\
# Written by `python -m deploy.observability.source` from deploy/observability/alerts.yaml. Many installations of
# Prometheus read only rules with a certain label, such as `release: prometheus`: add it with a patch.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sluice
  namespace: sluice
  labels:
    app.kubernetes.io/part-of: sluice
spec:
"""


def prometheus_rule() -> str:
    """The text of the PrometheusRule, with the comments of the alerts."""
    return HEAD + indent(ALERTS.read_text(), "  ")
