"""Records in the bucket `usage`, with keys `<tenant>.<year-month>.<day>.<id>`: a reader asks for whole months."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Final

from nats.js import JetStreamContext

from services.gateway.usage.models import DatedRow, UsageRecord
from shared.nats.kv import Repository
from shared.nats.subjects import USAGE

__all__ = ["EVERY_TENANT", "UsageStore"]

EVERY_TENANT: Final = "*"


class UsageStore:
    """The records of all gateways. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(jetstream, USAGE, UsageRecord.model_validate_json, noun="usage")

    async def put(self, tenant: str, day: date, record_id: str, record: UsageRecord) -> None:
        """Write a record, in the place of the one with the same id."""
        await self._records.put(f"{tenant}.{day:%Y-%m}.{day:%d}.{record_id}", record)

    async def rows(self, tenant: str, start: date, end: date) -> AsyncIterator[DatedRow]:
        """All rows of a tenant or of `EVERY_TENANT`, from the first day to the last, in no order."""
        for month in _months(start, end):
            async for key, value in self._records.entries(f"{tenant}.{month}.>"):
                owner, year_month, day_of_month, _ = key.split(".")
                day = date.fromisoformat(f"{year_month}-{day_of_month}")
                if start <= day <= end:
                    for row in UsageRecord.model_validate_json(value).rows:
                        yield DatedRow(day=day, tenant=owner, row=row)


def _months(start: date, end: date) -> list[str]:
    days = (start + timedelta(days=number) for number in range((end - start).days + 1))
    return list(dict.fromkeys(f"{day:%Y-%m}" for day in days))
