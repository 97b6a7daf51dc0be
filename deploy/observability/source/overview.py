"""Requests and stages: rate, errors, duration."""

from typing import Final

from deploy.observability.source.model import RATE, Chart, Dashboard, Row, quantiles, rates, share

__all__ = ["OVERVIEW"]

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
