"""Usage as it is counted and kept."""

from dataclasses import dataclass
from datetime import date
from typing import Self

from pydantic import BaseModel, ConfigDict

from shared.contracts.events import Usage

__all__ = ["Counts", "DatedRow", "UsageRecord", "UsageRow"]


class Counts(BaseModel):
    """Requests that were answered, and the tokens of their prompts and answers; `cached_tokens` are of the prompts."""

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def with_answer(self, usage: Usage) -> Self:
        """The counts with one more answer."""
        return self.model_copy(
            update={
                "requests": self.requests + 1,
                "prompt_tokens": self.prompt_tokens + usage.prompt_tokens,
                "completion_tokens": self.completion_tokens + usage.completion_tokens,
                "cached_tokens": self.cached_tokens + usage.cached_tokens,
            }
        )


class UsageRow(Counts):
    """The counts of one key and model; either is empty where there is none."""

    key: str = ""
    model: str = ""


class UsageRecord(BaseModel):
    """What one gateway has counted for one tenant on one day."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[UsageRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedRow:
    """A row of a record, with the day and the tenant of the record."""

    day: date
    tenant: str
    row: UsageRow
