"""From a dashboard to the JSON that Grafana exports and imports."""

from typing import Any, Final

from deploy.observability.source.model import COLUMNS, Chart, Dashboard, Row

__all__ = ["render"]

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA: Final = 41

Panel = dict[str, Any]


def render(dashboard: Dashboard) -> dict[str, Any]:
    """The JSON of a dashboard as Grafana exports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["sluice"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "annotations": {"list": []},
        "links": [
            {"type": "dashboards", "tags": ["sluice"], "title": "Sluice", "asDropdown": True, "includeVars": False}
        ],
        "templating": {"list": [_source(), *(_variable(*variable) for variable in dashboard.variables)]},
        "panels": _panels(dashboard.rows),
    }


def _source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {},
    }


def _variable(name: str, metric: str, label: str) -> dict[str, Any]:
    query = f"label_values({metric}, {label})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "values"},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "options": [],
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: tuple[Row, ...]) -> list[Panel]:
    panels: list[Panel] = []
    y = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        y, x, tallest = y + 1, 0, 0
        for chart in row.charts:
            if x + chart.width > COLUMNS:
                y, x, tallest = y + tallest, 0, 0
            place = {"x": x, "y": y, "w": chart.width, "h": chart.height}
            panels.append(_panel(chart, len(panels) + 1, place))
            x, tallest = x + chart.width, max(tallest, chart.height)
        y += tallest
    return panels


def _panel(chart: Chart, number: int, place: dict[str, int]) -> Panel:
    return {
        "id": number,
        "type": chart.kind,
        "title": chart.title,
        "description": chart.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": chart.unit, **_look(chart)}, "overrides": []},
        "options": _options(chart),
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend or "__auto",
                "range": chart.kind == "timeseries",
                "instant": chart.kind != "timeseries",
                "format": "table" if chart.kind == "table" else "time_series",
                "exemplar": chart.exemplars,
            }
            for at, (legend, expression) in enumerate(chart.queries)
        ],
        **(
            {"transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]}
            if chart.kind == "table"
            else {}
        ),
    }


def _look(chart: Chart) -> dict[str, Any]:
    if chart.kind != "timeseries":
        return {}
    stacking = {"mode": "normal" if chart.stacked else "none", "group": "A"}
    return {"min": 0, "custom": {"lineWidth": 1, "fillOpacity": 20 if chart.stacked else 5, "stacking": stacking}}


def _options(chart: Chart) -> dict[str, Any]:
    if chart.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if chart.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "area"}
    return {"showHeader": True}
