"""What a dashboard is made of, and the queries that many panels share."""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["COLUMNS", "RATE", "Chart", "Dashboard", "Query", "Row", "quantiles", "rates", "share"]

COLUMNS: Final = 24
RATE: Final = "[$__rate_interval]"

Query = tuple[str, str]
"""A legend and PromQL."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A panel: `queries` are pairs of a legend and PromQL. `exemplars` shows points that lead to traces."""

    title: str
    queries: tuple[Query, ...]
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


def quantiles(
    metric: str, where: str = "", by: str = "", shares: tuple[float, ...] = (0.5, 0.95, 0.99)
) -> tuple[Query, ...]:
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
