"""Writes the dashboards beside it: `python deploy/observability/make_dashboards.py`.

They are ordinary Grafana JSON, to be imported or provisioned as they are; this keeps their panels alike.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24
SCHEMA: Final = 41
RATE: Final = "[$__rate_interval]"

Panel = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A panel: `queries` are pairs of a legend and PromQL. `exemplars` shows points that lead to traces."""

    title: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""
    unit: str = "short"
    width: int = 8
    height: int = 8
    kind: str = "timeseries"
    stacked: bool = False
    exemplars: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    title: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """`variables` are names with the metric and label that their values come from."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]
    variables: tuple[tuple[str, str, str], ...] = field(default=())


def rates(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}{RATE}))"


def quantiles(metric: str, where: str = "", by: str = "", shares: tuple[float, ...] = (0.5, 0.95, 0.99)) -> Any:
    """A query for each quantile of a histogram, in total or by a label."""
    labels = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} p{{}}" if by else "p{}"
    return tuple(
        (
            legend.format(f"{share * 100:g}"),
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{where}}}{RATE})))",
        )
        for share in shares
    )


def share(part: str, whole: str) -> str:
    return f"({part}) / ({whole} > 0)"


STAGE: Final = 'stage=~"$stage", lane=~"$lane"'
STAGES: Final = (
    ("stage", "sluice_stage_room", "stage"),
    ("lane", "sluice_stage_room", "lane"),
)
REQUESTS: Final = "sluice_gateway_requests_total"

OVERVIEW: Final = Dashboard(
    uid="sluice-overview",
    title="Sluice: overview",
    about="Rate, errors and duration of requests and of every stage.",
    variables=STAGES,
    rows=(
        Row(
            title="Requests",
            charts=(
                Chart(title="Requests", unit="reqps", queries=(("{{route}}", rates(REQUESTS, "route")),), stacked=True),
                Chart(
                    title="Failed and refused",
                    about="Server errors, and requests refused because a queue or a limit was full.",
                    unit="percentunit",
                    queries=(
                        (
                            "failed",
                            share(f'sum(rate({REQUESTS}{{status=~"5.."}}{RATE}))', f"sum(rate({REQUESTS}{RATE}))"),
                        ),
                        (
                            "refused",
                            share(f'sum(rate({REQUESTS}{{status="429"}}{RATE}))', f"sum(rate({REQUESTS}{RATE}))"),
                        ),
                    ),
                ),
                Chart(
                    title="Queries in flight",
                    queries=(("in flight", "sum(sluice_gateway_queries_in_flight)"),),
                ),
                Chart(
                    title="Time to the first text",
                    about="From an interactive query's request to the first text of its answer.",
                    unit="s",
                    width=12,
                    queries=quantiles("sluice_gateway_first_delta_seconds"),
                    exemplars=True,
                ),
                Chart(
                    title="Duration of queries",
                    unit="s",
                    width=12,
                    queries=quantiles("sluice_gateway_request_seconds", 'route=~"POST /v1/(query|chat/completions)"'),
                    exemplars=True,
                ),
            ),
        ),
        Row(
            title="Stages",
            charts=(
                Chart(
                    title="Messages",
                    unit="ops",
                    queries=(("{{stage}}", rates("sluice_stage_messages_total", "stage", STAGE)),),
                ),
                Chart(
                    title="Problems, retries and dead letters",
                    unit="ops",
                    queries=(
                        (
                            "{{stage}} {{outcome}}",
                            rates(
                                "sluice_stage_messages_total",
                                "stage, outcome",
                                STAGE + ', outcome=~"problem|retried|dead_letter"',
                            ),
                        ),
                    ),
                ),
                Chart(
                    title="Redeliveries",
                    about="Messages that came again: their worker had failed, died or stalled.",
                    unit="ops",
                    queries=(("{{stage}}", rates("sluice_stage_redeliveries_total", "stage", STAGE)),),
                ),
                Chart(
                    title="Work, p95",
                    unit="s",
                    width=12,
                    queries=quantiles("sluice_stage_work_seconds", STAGE, "stage", (0.95,)),
                    exemplars=True,
                ),
                Chart(
                    title="Wait in the queue, p95",
                    unit="s",
                    width=12,
                    queries=quantiles("sluice_stage_queue_wait_seconds", STAGE, "stage", (0.95,)),
                    exemplars=True,
                ),
                Chart(
                    title="Rooms in use",
                    about="Messages in work, of those that all workers of a stage can hold.",
                    unit="percentunit",
                    queries=(
                        (
                            "{{stage}}/{{variant}}",
                            share(
                                "sum by (stage, variant) (sluice_stage_in_flight)",
                                'sum by (stage, variant) (sluice_stage_room{lane="interactive"})',
                            ),
                        ),
                    ),
                ),
                Chart(
                    title="Backlog",
                    about="What waits on the broker that no worker has taken.",
                    queries=(("{{stage}} {{lane}}", f"max by (stage, lane) (sluice_queue_waiting{{{STAGE}}})"),),
                ),
                Chart(
                    title="Outcomes",
                    unit="ops",
                    stacked=True,
                    queries=(("{{outcome}}", rates("sluice_stage_messages_total", "outcome", STAGE)),),
                ),
            ),
        ),
        Row(
            title="Interactive and batch",
            charts=(
                Chart(
                    title="Messages by lane",
                    unit="ops",
                    stacked=True,
                    queries=(("{{lane}}", rates("sluice_stage_messages_total", "lane", STAGE)),),
                ),
                Chart(
                    title="Wait by lane, p95",
                    unit="s",
                    queries=quantiles("sluice_stage_queue_wait_seconds", STAGE, "lane", (0.95,)),
                ),
                Chart(
                    title="In work by lane",
                    stacked=True,
                    queries=(("{{lane}}", f"sum by (lane) (sluice_stage_in_flight{{{STAGE}}})"),),
                ),
            ),
        ),
        Row(
            title="Processes",
            charts=(
                Chart(
                    title="CPU",
                    unit="none",
                    about="Cores in use by each process.",
                    queries=(
                        (
                            "{{instance}}",
                            f"rate(process_cpu_seconds_total{RATE}) and on (instance) sluice_build_info",
                        ),
                    ),
                ),
                Chart(
                    title="Memory",
                    unit="bytes",
                    queries=(("{{instance}}", "process_resident_memory_bytes and on (instance) sluice_build_info"),),
                ),
                Chart(
                    title="Versions",
                    kind="table",
                    queries=(("", "count by (component, version) (sluice_build_info)"),),
                ),
            ),
        ),
    ),
)

GENERATOR: Final = Dashboard(
    uid="sluice-generator",
    title="Sluice: generator and GPU",
    about="What writing answers costs: tokens, the engine's queue and memory, the GPU.",
    variables=(("model", "sluice_generator_running", "model"),),
    rows=(
        Row(
            title="Answers",
            charts=(
                Chart(
                    title="Time to the first token",
                    about="From the engine's being asked to its first piece.",
                    unit="s",
                    queries=quantiles("sluice_generator_time_to_first_token_seconds", 'model=~"$model"'),
                    exemplars=True,
                ),
                Chart(
                    title="Time between tokens",
                    unit="s",
                    queries=quantiles("sluice_generator_time_per_output_token_seconds", 'model=~"$model"'),
                ),
                Chart(
                    title="Answers being written",
                    queries=(("{{model}}", 'sum by (model) (sluice_generator_running{model=~"$model"})'),),
                ),
                Chart(
                    title="Tokens",
                    unit="ops",
                    about="Tokens a second.",
                    queries=(
                        ("prompt", f'sum(rate(sluice_generator_prompt_tokens_total{{model=~"$model"}}{RATE}))'),
                        (
                            "of these cached",
                            f'sum(rate(sluice_generator_cached_tokens_total{{model=~"$model"}}{RATE}))',
                        ),
                        ("written", f'sum(rate(sluice_generator_completion_tokens_total{{model=~"$model"}}{RATE}))'),
                    ),
                ),
                Chart(
                    title="How answers end",
                    unit="ops",
                    stacked=True,
                    queries=(("{{finish}}", rates("sluice_generator_answers_total", "finish", 'model=~"$model"')),),
                ),
                Chart(
                    title="Wait for a generator, p95",
                    unit="s",
                    queries=quantiles("sluice_stage_queue_wait_seconds", 'stage="generate"', "lane", (0.95,)),
                ),
            ),
        ),
        Row(
            title="vLLM",
            charts=(
                Chart(
                    title="KV cache in use",
                    unit="percentunit",
                    queries=(("{{instance}}", "max by (instance) (vllm:kv_cache_usage_perc)"),),
                ),
                Chart(
                    title="Requests in the engine",
                    queries=(
                        ("running", "sum(vllm:num_requests_running)"),
                        ("waiting", "sum(vllm:num_requests_waiting)"),
                    ),
                ),
                Chart(
                    title="Preemptions",
                    about="Answers that were put back for want of KV cache and computed again.",
                    unit="ops",
                    queries=(("preempted", f"sum(rate(vllm:num_preemptions_total{RATE}))"),),
                ),
                Chart(
                    title="Prefix cache hits",
                    unit="percentunit",
                    queries=(
                        (
                            "hits",
                            share(
                                f"sum(rate(vllm:prefix_cache_hits_total{RATE}))",
                                f"sum(rate(vllm:prefix_cache_queries_total{RATE}))",
                            ),
                        ),
                    ),
                ),
                Chart(
                    title="Wait in the engine",
                    unit="s",
                    queries=quantiles("vllm:request_queue_time_seconds"),
                ),
                Chart(
                    title="Prefill and decode, p95",
                    unit="s",
                    queries=(
                        *(("prefill", q) for _, q in quantiles("vllm:request_prefill_time_seconds", shares=(0.95,))),
                        *(("decode", q) for _, q in quantiles("vllm:request_decode_time_seconds", shares=(0.95,))),
                    ),
                ),
            ),
        ),
        Row(
            title="GPU (DCGM exporter)",
            charts=(
                Chart(
                    title="GPU utilisation",
                    unit="percent",
                    queries=(("{{Hostname}} {{gpu}}", "avg by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)"),),
                ),
                Chart(
                    title="GPU memory in use",
                    unit="decmbytes",
                    queries=(("{{Hostname}} {{gpu}}", "avg by (Hostname, gpu) (DCGM_FI_DEV_FB_USED)"),),
                ),
                Chart(
                    title="GPU power",
                    unit="watt",
                    queries=(("{{Hostname}} {{gpu}}", "avg by (Hostname, gpu) (DCGM_FI_DEV_POWER_USAGE)"),),
                ),
            ),
        ),
    ),
)

JOBS: Final = Dashboard(
    uid="sluice-jobs",
    title="Sluice: jobs and ingestion",
    about="The job plane: what waits and runs, documents on their way into the index, schedules, batches.",
    rows=(
        Row(
            title="Jobs",
            charts=(
                Chart(
                    title="Tries at jobs",
                    unit="ops",
                    stacked=True,
                    queries=(("{{kind}} {{outcome}}", rates("sluice_jobs_total", "kind, outcome")),),
                ),
                Chart(
                    title="Running",
                    stacked=True,
                    queries=(("{{kind}}", "sum by (kind) (sluice_jobs_running)"),),
                ),
                Chart(
                    title="On the queue",
                    queries=(
                        ("waiting", "max(sluice_jobs_waiting)"),
                        ("in work", "max(sluice_jobs_in_work)"),
                    ),
                ),
                Chart(
                    title="Duration of a try, p95",
                    unit="s",
                    queries=quantiles("sluice_job_seconds", "", "kind", (0.95,)),
                    exemplars=True,
                ),
                Chart(
                    title="Wait for a start, p95",
                    unit="s",
                    queries=quantiles("sluice_job_queue_wait_seconds", "", "kind", (0.95,)),
                ),
                Chart(
                    title="From a cancel to its end, p95",
                    unit="s",
                    queries=quantiles("sluice_job_cancel_seconds", "", "kind", (0.95,)),
                ),
            ),
        ),
        Row(
            title="Ingestion",
            charts=(
                Chart(
                    title="Documents",
                    unit="ops",
                    stacked=True,
                    queries=(("{{outcome}}", rates("sluice_ingest_documents_total", "outcome")),),
                ),
                Chart(
                    title="Chunks", unit="ops", queries=(("indexed", f"sum(rate(sluice_ingest_chunks_total{RATE}))"),)
                ),
                Chart(title="Bytes", unit="Bps", queries=(("read", f"sum(rate(sluice_ingest_bytes_total{RATE}))"),)),
                Chart(
                    title="Batch size, mean",
                    queries=(
                        (
                            "{{batch}}",
                            f"{rates('sluice_batch_items_sum', 'batch')}"
                            f" / {rates('sluice_batch_items_count', 'batch')}",
                        ),
                    ),
                ),
                Chart(
                    title="Time of a batch, p95",
                    unit="s",
                    queries=quantiles("sluice_batch_seconds", "", "batch", (0.95,)),
                ),
                Chart(
                    title="Upkeep of the index, p95",
                    unit="s",
                    queries=quantiles("sluice_index_upkeep_seconds", shares=(0.95,)),
                ),
            ),
        ),
        Row(
            title="Schedules and batches",
            charts=(
                Chart(
                    title="Ticks",
                    stacked=True,
                    queries=(("{{outcome}}", "sum by (outcome) (increase(sluice_schedule_ticks_total[1h]))"),),
                ),
                Chart(
                    title="Lateness of ticks, p95",
                    unit="s",
                    queries=quantiles("sluice_schedule_lateness_seconds", shares=(0.95,)),
                ),
                Chart(
                    title="Requests of batches",
                    unit="ops",
                    stacked=True,
                    queries=(("{{endpoint}} {{status}}", rates("sluice_requests_total", "endpoint, status")),),
                ),
                Chart(
                    title="Dead letters",
                    width=12,
                    queries=(
                        ("kept", "max(sluice_dead_letters_kept)"),
                        ("new in an hour, {{plane}}", "sum by (plane) (increase(sluice_dead_letters_total[1h]))"),
                    ),
                ),
                Chart(
                    title="Requests in flight",
                    width=12,
                    queries=(("in flight", "sum(sluice_requests_in_flight)"),),
                ),
            ),
        ),
    ),
)

TENANT: Final = 'tenant=~"$tenant"'

TENANTS: Final = Dashboard(
    uid="sluice-tenants",
    title="Sluice: cost by tenant",
    about="Tokens and time of devices by tenant. Tenants beyond SLUICE_METRIC_TENANTS are together as `other`.",
    variables=(("tenant", "sluice_tenant_work_seconds_total", "tenant"),),
    rows=(
        Row(
            title="Now",
            charts=(
                Chart(
                    title="Tokens written",
                    unit="ops",
                    stacked=True,
                    queries=(
                        ("{{tenant}}", rates("sluice_tenant_tokens_total", "tenant", TENANT + ', type="completion"')),
                    ),
                ),
                Chart(
                    title="Tokens read",
                    unit="ops",
                    stacked=True,
                    queries=(
                        ("{{tenant}}", rates("sluice_tenant_tokens_total", "tenant", TENANT + ', type="prompt"')),
                    ),
                ),
                Chart(
                    title="Tokens embedded",
                    unit="ops",
                    stacked=True,
                    queries=(("{{tenant}}", rates("sluice_tenant_tokens_total", "tenant", TENANT + ', type="embed"')),),
                ),
                Chart(
                    title="Devices in use",
                    about="Seconds of GPU (or CPU) per second, shared among those whose work ran at the same time.",
                    unit="none",
                    width=12,
                    stacked=True,
                    queries=(
                        ("{{tenant}} {{stage}}", rates("sluice_tenant_device_seconds_total", "tenant, stage", TENANT)),
                    ),
                ),
                Chart(
                    title="Work in progress",
                    about="Seconds of work per second, by stage: what a tenant keeps occupied.",
                    unit="none",
                    width=12,
                    stacked=True,
                    queries=(
                        ("{{tenant}} {{stage}}", rates("sluice_tenant_work_seconds_total", "tenant, stage", TENANT)),
                    ),
                ),
            ),
        ),
        Row(
            title="In the time shown",
            charts=(
                Chart(
                    title="Tokens",
                    kind="table",
                    width=12,
                    queries=(
                        ("", f"sum by (tenant, type) (increase(sluice_tenant_tokens_total{{{TENANT}}}[$__range]))"),
                    ),
                ),
                Chart(
                    title="Device seconds",
                    kind="table",
                    unit="s",
                    width=12,
                    queries=(
                        (
                            "",
                            "sum by (tenant, stage) "
                            f"(increase(sluice_tenant_device_seconds_total{{{TENANT}}}[$__range]))",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

BROKER: Final = Dashboard(
    uid="sluice-broker",
    title="Sluice: broker",
    about="Queues as the gateways see them, and NATS as its Prometheus exporter does (started with -prefix=nats).",
    rows=(
        Row(
            title="Queues",
            charts=(
                Chart(
                    title="Broker answers",
                    kind="stat",
                    width=4,
                    queries=(("", "max(sluice_broker_up)"),),
                ),
                Chart(
                    title="Dead letters kept",
                    kind="stat",
                    width=4,
                    queries=(("", "max(sluice_dead_letters_kept)"),),
                ),
                Chart(
                    title="Waiting",
                    queries=(
                        ("{{stage}}/{{variant}} {{lane}}", "max by (stage, variant, lane) (sluice_queue_waiting)"),
                    ),
                ),
                Chart(
                    title="In work",
                    queries=(
                        ("{{stage}}/{{variant}} {{lane}}", "max by (stage, variant, lane) (sluice_queue_in_work)"),
                    ),
                ),
            ),
        ),
        Row(
            title="NATS",
            charts=(
                Chart(title="Connections", queries=(("{{server_id}}", "nats_varz_connections"),)),
                Chart(title="Slow consumers", queries=(("{{server_id}}", "nats_varz_slow_consumers"),)),
                Chart(title="Memory", unit="bytes", queries=(("{{server_id}}", "nats_varz_mem"),)),
                Chart(
                    title="Messages",
                    unit="ops",
                    queries=(
                        ("in", f"sum(rate(nats_varz_in_msgs{RATE}))"),
                        ("out", f"sum(rate(nats_varz_out_msgs{RATE}))"),
                    ),
                ),
                Chart(
                    title="Bytes of streams",
                    unit="bytes",
                    queries=(("{{stream_name}}", "max by (stream_name) (nats_stream_total_bytes)"),),
                ),
                Chart(
                    title="Storage in use",
                    unit="percentunit",
                    queries=(
                        (
                            "{{server_id}}",
                            "nats_server_total_message_bytes / (nats_server_max_storage > 0)",
                        ),
                    ),
                ),
                Chart(
                    title="Messages of streams",
                    width=COLUMNS,
                    queries=(("{{stream_name}}", "max by (stream_name) (nats_stream_total_messages)"),),
                ),
            ),
        ),
    ),
)

DASHBOARDS: Final = (OVERVIEW, GENERATOR, JOBS, TENANTS, BROKER)


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


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        path = FOLDER / f"{dashboard.uid}.json"
        path.write_text(json.dumps(render(dashboard), indent=2) + "\n")


if __name__ == "__main__":
    main()
