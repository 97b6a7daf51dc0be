"""Jobs, ingestion, schedules."""

from typing import Final

from deploy.observability.source.model import RATE, Chart, Dashboard, Row, quantiles, rates

__all__ = ["JOBS"]

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
