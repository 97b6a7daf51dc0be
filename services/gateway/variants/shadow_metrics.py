"""A shadow's answer beside the live answer to the same query, as metrics.

Both sides of a pair are counted only once both have answered, so the two sides of a histogram are the same queries.
"""

from collections import Counter as Multiset
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.gateway.queries.assembler import AnswerAssembler, Ended
from shared.telemetry.metrics import SECONDS

__all__ = ["IN_FLIGHT", "OUTCOMES", "Comparison", "Run", "source_overlap", "text_overlap"]

STAGE: Final = ("stage", "variant")
SIDE: Final = (*STAGE, "side")
SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)
TOKENS: Final = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

IN_FLIGHT = Gauge("sluice_shadow_in_flight", "Shadow queries that wait for their answer.")
OUTCOMES = Counter(
    "sluice_shadow_queries_total",
    "Shadow queries by how they ended: answered, the code of a problem, cancelled, unvisited where their way did not "
    "come to the stage, or skipped for want of room.",
    (*STAGE, "outcome"),
)
SECONDS_TOTAL = Histogram(
    "sluice_shadow_seconds", "Time to the end of the answer, of the shadow and of the live one.", SIDE, buckets=SECONDS
)
FIRST_DELTA = Histogram(
    "sluice_shadow_first_delta_seconds",
    "Time to the first text of the answer, of the shadow and of the live one.",
    SIDE,
    buckets=SECONDS,
)
WORK = Histogram(
    "sluice_shadow_stage_work_seconds",
    "Time at work in the stage that has a shadow, without waiting, of the shadow and of the live one.",
    SIDE,
    buckets=SECONDS,
)
COMPLETION = Histogram(
    "sluice_shadow_completion_tokens", "Tokens of the answer, of the shadow and of the live one.", SIDE, buckets=TOKENS
)
TEXT_OVERLAP = Histogram(
    "sluice_shadow_text_overlap", "Words that shadow and live answer have in common, 0 to 1.", STAGE, buckets=SHARES
)
SOURCE_OVERLAP = Histogram(
    "sluice_shadow_source_overlap", "Sources that shadow and live answer have in common, 0 to 1.", STAGE, buckets=SHARES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One side's answer. Seconds count from when the query was submitted; `worked` is in the compared stage alone."""

    seconds: float
    first_delta: float | None
    worked: float | None
    tokens: int
    text: str
    sources: frozenset[tuple[str, int]]

    @classmethod
    def of(
        cls, answer: AnswerAssembler, ended: Ended, stage: str, *, seconds: float, first_delta: float | None
    ) -> "Run":
        worked = [hop.worked_ms / 1e3 for hop in ended.trail if hop.stage == stage]
        return cls(
            seconds=seconds,
            first_delta=first_delta,
            worked=sum(worked) if worked else None,
            tokens=ended.usage.completion_tokens,
            text=answer.text,
            sources=frozenset((passage.document_id, passage.position) for passage in answer.sources),
        )


class Comparison:
    """Waits for both sides of a pair and counts them together."""

    def __init__(self, stage: str, variant: str) -> None:
        self._labels = (stage, variant)
        self._sides: dict[str, Run] = {}

    def note(self, side: str, run: Run) -> None:
        """The run of one side, "live" or "shadow", in whatever order they come."""
        self._sides[side] = run
        if len(self._sides) == 2:
            for each, found in self._sides.items():
                self._count(each, found)
            live, shadow = self._sides["live"], self._sides["shadow"]
            TEXT_OVERLAP.labels(*self._labels).observe(text_overlap(live.text, shadow.text))
            SOURCE_OVERLAP.labels(*self._labels).observe(source_overlap(live.sources, shadow.sources))
            self._sides = {}

    def _count(self, side: str, run: Run) -> None:
        labels = (*self._labels, side)
        SECONDS_TOTAL.labels(*labels).observe(run.seconds)
        COMPLETION.labels(*labels).observe(run.tokens)
        if run.first_delta is not None:
            FIRST_DELTA.labels(*labels).observe(run.first_delta)
        if run.worked is not None:
            WORK.labels(*labels).observe(run.worked)


def text_overlap(one: str, other: str) -> float:
    """The words that two texts have in common, repeated ones as often as in both: the F1 of SQuAD, 0 to 1.

    Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016.
    """
    words, others = Multiset(one.lower().split()), Multiset(other.lower().split())
    if not words and not others:
        return 1.0
    return 2 * (words & others).total() / (words.total() + others.total())


def source_overlap(some: frozenset[tuple[str, int]], others: frozenset[tuple[str, int]]) -> float:
    """What two sets have in common, of all that is in either (Jaccard), 0 to 1."""
    return len(some & others) / len(some | others) if some or others else 1.0
