"""What the HTTP API says of usage, as typed, immutable models."""

from datetime import date

from sluice.api.base import Schema

__all__ = ["UsageReport", "UsageRow", "UsageTotal"]


class UsageTotal(Schema):
    """Answered requests and their tokens; `cached_tokens` are those of the prompts that an engine had in its cache.

    `cost` is that of the tokens whose model has a price, None where none has. `unpriced_tokens` are all others.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    unpriced_tokens: int = 0


class UsageRow(UsageTotal):
    """The sum over one value of each dimension that was asked for; the other dimensions are None.

    `key` is the id of an API key, empty for answers without one. `model` is empty where no model is known.
    """

    day: date | None = None
    tenant: str | None = None
    key: str | None = None
    model: str | None = None


class UsageReport(Schema):
    """Usage from the day `start` to the day `end` (UTC), in the order of the dimensions in `by`.

    `tenant` is `*` for all. `currency` is None where the platform has no prices.
    """

    start: date
    end: date
    by: tuple[str, ...] = ()
    tenant: str = ""
    currency: str | None = None
    rows: tuple[UsageRow, ...] = ()
    total: UsageTotal = UsageTotal()
