"""What clients were told about documents and jobs, and what may be true besides. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["GONE", "Fate", "Ledger", "digest"]

GONE: Final = ""
"""The text of a document that is not there."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(slots=True)
class Fate:
    """One document: the text that was acknowledged last, and those of requests since then that nobody answered."""

    told: str = GONE
    unsure: set[str] = field(default_factory=set)

    def admits(self, sha256: str | None) -> bool:
        """Whether a document with this content, None for none, is one of those that may be there."""
        return any((digest(text) if text else None) == sha256 for text in (self.told, *self.unsure))


@dataclass
class Ledger:
    """Each document is changed by one client at a time. `fresh` are jobs and documents of the time since `settle`."""

    fates: dict[str, Fate] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    """Accepted jobs, and the last state of each that somebody was told."""
    fresh_jobs: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)
    told: int = 0
    unsure: int = 0

    def sending(self, texts: Mapping[str, str]) -> None:
        """A request is on its way: from now on it may have taken effect."""
        for name, text in texts.items():
            self.fates.setdefault(name, Fate()).unsure.add(text)
            self.fresh.add(name)

    def accepted(self, texts: Mapping[str, str], job: str) -> None:
        for name, text in texts.items():
            self.fates[name] = Fate(told=text)
        self.jobs.setdefault(job, "")
        self.fresh_jobs.add(job)
        self.told += 1

    def seen(self, job: str, state: str) -> str:
        """Somebody was told a job's state. Returns what is wrong with it: an ended job stays as it ended."""
        before = self.jobs.get(job, "")
        if before in ("succeeded", "failed", "cancelled") and state != before:
            return f"job {job} was {before}, and now is {state}"
        self.jobs[job] = state
        return ""

    def judge(self, found: Mapping[str, str]) -> list[str]:
        """What is wrong with the documents that are there, given by name with the SHA-256 of their content."""
        wrong = [
            f"{name} is {'there' if name in found else 'lost'}, told was {fate.told[:60]!r}, unsure {len(fate.unsure)}"
            for name, fate in self.fates.items()
            if not fate.admits(found.get(name))
        ]
        return wrong + [f"{name} is there, and nobody has sent it" for name in found.keys() - self.fates.keys()]

    def settle(self, found: Mapping[str, str]) -> None:
        """Take for told what is there, once nothing is on its way any more."""
        self.unsure += sum(bool(fate.unsure) for fate in self.fates.values())
        for name, fate in self.fates.items():
            fate.told = next(
                (text for text in (fate.told, *fate.unsure) if (digest(text) if text else None) == found.get(name)),
                fate.told,
            )
            fate.unsure.clear()
        self.fresh.clear()
        self.fresh_jobs.clear()
