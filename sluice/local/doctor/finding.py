"""The result of a check."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["Finding", "Place", "Verdict"]


class Verdict(StrEnum):
    GOOD = "good"
    NOTE = "note"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to look: the data folder (absolute), the port that `up` would take, an address where one was given."""

    data: Path
    port: int = 8080
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` says what to do; empty where nothing needs to be done."""

    name: str
    verdict: Verdict
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "verdict": self.verdict, "message": self.message, "remedy": self.remedy}
