"""What arrives, and how long it takes: answer lengths as others have measured them, stage times as this platform has.

The lengths come from the conversation trace of Azure's LLM inference dataset of 2023 (19,366 requests; Patel et al.,
"Splitwise", ISCA 2024; github.com/Azure/AzurePublicDataset, CC-BY): the logarithms of its answer lengths have the mean
5.019 and the standard deviation 0.859. That trace ends at 1,000 tokens; the log-normal distribution here goes on to
the limit of 16,384. The Pareto distribution is no measurement: it has the same mean, and a tail as heavy as that of
long reasoning may be.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.simulation.cluster import Costs, Job

__all__ = ["LENGTHS", "STAGE_TIMES", "Times", "answer_lengths", "arrivals", "load_times", "mean_work", "work_times"]

STAGE_TIMES: Final = Path(__file__).with_name("stage_times.json")

LOG_MEAN: Final = 5.019
LOG_DEVIATION: Final = 0.859
LONGEST: Final = 16_384
"""Tokens at which an answer is cut off."""

PARETO_SHAPE: Final = 1.3
TOKEN_SECONDS: Final = 0.025
"""Seconds per token of one sequence: an assumption, 40 tokens a second. It only sets the scale of all times."""

LENGTHS: Final = ("log-normal", "pareto")


@dataclass(frozen=True, slots=True)
class Times:
    """This platform's own stage times in seconds, as `stage_times.json` has them."""

    before: float
    """All stages before the generator, with their hops."""

    embed: float
    costs: Costs


def load_times(file: Path = STAGE_TIMES) -> Times:
    found: dict[str, Any] = json.loads(file.read_text())
    before = sum(
        found["stages"][stage][part]["p50"] for stage in ("embed", "retrieve") for part in ("waited", "worked")
    )
    costs = Costs(hop=found["hop_ms"]["p50"] / 1e3, fetch=found["fetch_ms"]["p50"] / 1e3)
    return Times(before=before / 1e3, embed=found["stages"]["embed"]["worked"]["p50"] / 1e3, costs=costs)


def answer_lengths(kind: str, count: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Tokens of answers."""
    if kind == "log-normal":
        return np.minimum(rng.lognormal(LOG_MEAN, LOG_DEVIATION, count), LONGEST)
    least = _least_pareto()
    # The inverse of the distribution function of a Pareto distribution that ends at LONGEST.
    cut = 1 - (least / LONGEST) ** PARETO_SHAPE
    return np.asarray(least * (1 - rng.random(count) * cut) ** (-1 / PARETO_SHAPE))


def _least_pareto() -> float:
    """The least length at which the bounded Pareto distribution has the mean of the log-normal one."""
    low, high = 1.0, 500.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _pareto_mean(middle) < _mean_length() else (low, middle)
    return low


def _pareto_mean(least: float) -> float:
    a = PARETO_SHAPE
    scale: float = least**a / (1 - (least / LONGEST) ** a)
    return scale * a / (a - 1) * (least ** (1 - a) - LONGEST ** (1 - a))


def _mean_length() -> float:
    """Of the log-normal distribution; what lies beyond LONGEST is too rare to matter."""
    return float(np.exp(LOG_MEAN + LOG_DEVIATION**2 / 2))


def mean_work() -> float:
    """Seconds that an answer takes on average, of either kind."""
    return _mean_length() * TOKEN_SECONDS


def work_times(kind: str, count: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Seconds that answers take at full speed."""
    return answer_lengths(kind, count, rng) * TOKEN_SECONDS


def arrivals(
    rate: float, seconds: float, kind: str, rng: np.random.Generator, *, begin: float = 0.0, fixed: float | None = None
) -> list[Job]:
    """Requests that come by chance (a Poisson process), so many a second. `fixed` is the work of each, if all are
    alike."""
    count = int(rng.poisson(rate * seconds))
    times = np.sort(rng.random(count)) * seconds + begin
    work = np.full(count, fixed) if fixed is not None else work_times(kind, count, rng)
    return [Job(arrived, each) for arrived, each in zip(times.tolist(), work.tolist(), strict=True)]
