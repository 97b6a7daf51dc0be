"""Sums usage by day, tenant, key and model, and says what it costs."""

from collections.abc import AsyncIterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from services.gateway.http.problems import invalid_member
from services.gateway.usage.models import DatedRow, UsageRow
from services.gateway.usage.prices import Price
from sluice.api import usage as api

__all__ = ["Dimension", "parse_dimensions", "summarize"]

MOST_GROUPS: Final = 10_000
"""Rows of one report."""


class Dimension(StrEnum):
    DAY = "day"
    TENANT = "tenant"
    KEY = "key"
    MODEL = "model"


def parse_dimensions(text: str) -> tuple[Dimension, ...]:
    """The dimensions in a list such as `day,model`. Raises Problem INVALID_REQUEST."""
    try:
        found = tuple(Dimension(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        found = ()
    if not found or len(set(found)) < len(found):
        raise invalid_member("by", f"give some of {', '.join(Dimension)}, each once, separated by commas")
    return found


class _Sum:
    """A sum that grows."""

    def __init__(self) -> None:
        self.requests = self.prompt_tokens = self.completion_tokens = self.cached_tokens = self.unpriced_tokens = 0
        self.cost: float | None = None

    def add(self, row: UsageRow, price: Price | None) -> None:
        self.requests += row.requests
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        self.cached_tokens += row.cached_tokens
        if price is None:
            self.unpriced_tokens += row.prompt_tokens + row.completion_tokens
        else:
            cost = price.of(prompt_tokens=row.prompt_tokens, completion_tokens=row.completion_tokens)
            self.cost = (self.cost or 0.0) + cost


async def summarize(
    rows: AsyncIterable[DatedRow], by: Sequence[Dimension], prices: Mapping[str, Price]
) -> tuple[tuple[api.UsageRow, ...], api.UsageTotal]:
    """The sums by these dimensions, in their order, and the sum of all. Raises Problem INVALID_REQUEST for too many."""
    groups: dict[tuple[str, ...], _Sum] = {}
    total = _Sum()
    async for dated in rows:
        place = tuple(_value(dated, dimension) for dimension in by)
        if place not in groups and len(groups) >= MOST_GROUPS:
            detail = f"a report has at most {MOST_GROUPS:,} rows; give fewer dimensions or fewer days"
            raise invalid_member("by", detail)
        price = prices.get(dated.row.model)
        for summed in (groups.setdefault(place, _Sum()), total):
            summed.add(dated.row, price)
    found = tuple(
        api.UsageRow.model_validate({**vars(groups[place]), **dict(zip(by, place, strict=True))})
        for place in sorted(groups)
    )
    return found, api.UsageTotal.model_validate(vars(total))


def _value(dated: DatedRow, dimension: Dimension) -> str:
    match dimension:
        case Dimension.DAY:
            return dated.day.isoformat()
        case Dimension.TENANT:
            return dated.tenant
        case Dimension.KEY:
            return dated.row.key
        case Dimension.MODEL:
            return dated.row.model
