"""Writes the dashboards, and the alerts for the Prometheus Operator."""

import json
from pathlib import Path
from typing import Final

from deploy.observability.source import DASHBOARDS, render
from deploy.observability.source.rule import RULE, prometheus_rule

FOLDER: Final = Path(__file__).parents[1] / "dashboards"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(json.dumps(render(dashboard), indent=2) + "\n")
    RULE.write_text(prometheus_rule())


main()
