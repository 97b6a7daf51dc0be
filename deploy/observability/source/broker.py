"""Queues and NATS."""

from typing import Final

from deploy.observability.source.model import COLUMNS, RATE, Chart, Dashboard, Row

__all__ = ["BROKER"]

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
