"""Dashboards and alerts use metrics and labels that exist, and are what Grafana and Prometheus take."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from deploy.observability import source
from tests.harness.metrics import own_metrics, sample_labels
from tests.harness.paths import ROOT

FOLDER = ROOT / "deploy" / "observability"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
TARGET = {"instance", "job", "namespace", "pod", "service", "container"}
"""Labels that Prometheus adds to whatever it scrapes."""

VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}
PAGE = ROOT / "docs" / "observability.md"


def series() -> dict[str, frozenset[str]]:
    """Everything that may be used, with its labels."""
    external = yaml.safe_load((FOLDER / "external-metrics.yaml").read_text())
    return sample_labels() | {name: frozenset(labels) for part in external.values() for name, labels in part.items()}


def load(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


def charts(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def selectors(node: Any) -> Iterator[Any]:
    """The series that an expression reads."""
    if isinstance(node, promql.VectorSelector):
        yield node
    for name in ("vector_selector", "expr", "lhs", "rhs", "param"):
        if (child := getattr(node, name, None)) is not None:
            yield from selectors(child)
    for argument in getattr(node, "args", None) or []:
        yield from selectors(argument)


def groupings(node: Any) -> Iterator[tuple[str, frozenset[str]]]:
    """Each label that an expression groups or matches by, with the labels that there are below it."""
    labels = list(node.modifier.labels) if isinstance(node, promql.AggregateExpr) and node.modifier else []
    if isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
        labels += node.modifier.matching.labels
    below = frozenset().union(*(series().get(one.name, frozenset()) for one in selectors(node)))
    yield from ((label, below) for label in labels)
    for name in ("expr", "lhs", "rhs", "param"):
        if (child := getattr(node, name, None)) is not None:
            yield from groupings(child)
    for argument in getattr(node, "args", None) or []:
        yield from groupings(argument)


def check(expression: str) -> None:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    tree = promql.parse(expression)
    known = series()
    read = list(selectors(tree))
    assert read, expression
    for one in read:
        assert one.name in known, f"no service has {one.name}: {expression}"
        for matcher in one.matchers.matchers:
            assert matcher.name in known[one.name] | TARGET, f"{one.name} has no label {matcher.name}"
    for label, below in groupings(tree):
        assert label in below | TARGET, f"nothing in {expression} has the label {label}"


def expressions() -> list[Any]:
    found = [
        pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}")
        for path in DASHBOARDS
        for panel in charts(load(path))
        for target in panel["targets"]
    ]
    return found + [pytest.param(rule["expr"], id=rule["alert"]) for rule in rules()]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_asked_for_exists(expression: str) -> None:
    check(expression)


@pytest.mark.parametrize(
    "expression",
    ["sum(sluice_nothing_total)", 'sluice_stage_room{colour="red"}', "sum by (colour) (sluice_stage_room)"],
)
def test_what_does_not_exist_is_found(expression: str) -> None:
    with pytest.raises(AssertionError):
        check(expression)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_legends_and_variables_name_labels_that_exist(path: Path) -> None:
    dashboard = load(path)
    for panel in charts(dashboard):
        for target in panel["targets"]:
            tree = promql.parse(re.sub(r"\[\$\w+\]", "[5m]", target["expr"]))
            below = frozenset().union(*(series()[one.name] for one in selectors(tree)))
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert named <= below | TARGET, panel["title"]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used == variables
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\S+), (\S+)\)", variable["definition"])
            assert found is not None
            assert found[2] in series()[found[1]]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    dashboard = load(path)
    assert dashboard["uid"] == path.stem
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells, f"{panel['title']} covers {cells[x, y]}"
                cells[x, y] = panel["title"]
    for panel in charts(dashboard):
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert panel["title"]


def test_dashboards_are_what_their_program_writes() -> None:
    assert {path.stem for path in DASHBOARDS} == {dashboard.uid for dashboard in source.DASHBOARDS}
    for dashboard in source.DASHBOARDS:
        found = load(FOLDER / "dashboards" / f"{dashboard.uid}.json")
        assert found == source.render(dashboard), "run python -m deploy.observability.source"


def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith((".", "`."))
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        below = frozenset().union(*(series()[one.name] for one in selectors(promql.parse(rule["expr"]))))
        assert named <= below | TARGET, rule["alert"]


def test_the_page_on_observability_lists_every_metric_with_its_labels() -> None:
    page = PAGE.read_text()
    for name, metric in own_metrics().items():
        if name.startswith("sluice_"):
            labels = ", ".join(metric.labels) or "-"
            assert f"| `{name}` | {labels} | {metric.help} |" in page, f"| `{name}` | {labels} | {metric.help} |"
    named = set(re.findall(r"^\| `(sluice_\w+)` \|", page, flags=re.MULTILINE))
    assert named <= set(own_metrics())


def test_every_alert_has_a_section_that_says_what_to_do() -> None:
    headings = set(re.findall(r"^#+ (\w+)$", (ROOT / "docs" / "operations.md").read_text(), flags=re.MULTILINE))
    assert {rule["alert"] for rule in rules()} <= headings


def test_the_page_on_observability_lists_every_alert() -> None:
    page = PAGE.read_text()
    for rule in rules():
        assert f"| `{rule['alert']}` | {rule['labels']['severity']} |" in page
