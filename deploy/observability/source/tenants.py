"""What each tenant costs."""

from typing import Final

from deploy.observability.source.model import Chart, Dashboard, Row, rates

__all__ = ["TENANTS"]

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
