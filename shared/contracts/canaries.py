"""What a canary is judged by: how the questions to each version of a collection have ended."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final, Self

from pydantic import Field

from shared.contracts.wire import Wire

__all__ = ["BOUNDS", "CanaryCounts", "VersionCounts"]

BOUNDS: Final = (
    0.01,
    0.02,
    0.03,
    0.05,
    0.07,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.7,
    1,
    1.5,
    2,
    3,
    5,
    7,
    10,
    15,
    20,
    30,
    50,
    100,
)
"""Upper bounds of the buckets of times, in seconds; a last bucket has no bound."""


class VersionCounts(Wire):
    """Questions to one version that were `answered`, and that `failed` by a fault of ours.

    Of the answered ones, `declined` found no answer in the documents, `up` and `down` were rated so, and `times` counts
    them by their time to the end, in the buckets of BOUNDS; copies in the shadow have no time there. A rating that is
    taken back counts -1 where it was counted.
    """

    answered: int = 0
    failed: int = 0
    declined: int = 0
    up: int = 0
    down: int = 0
    times: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)

    def __add__(self, other: "VersionCounts") -> "VersionCounts":
        return VersionCounts(
            answered=self.answered + other.answered,
            failed=self.failed + other.failed,
            declined=self.declined + other.declined,
            up=self.up + other.up,
            down=self.down + other.down,
            times=tuple(a + b for a, b in zip(self.times, other.times, strict=True)),
        )

    def since(self, before: "VersionCounts") -> "VersionCounts":
        """What was counted after `before`, which is a part of this. Ratings that were taken back may leave less than
        nothing."""
        return VersionCounts(
            answered=max(0, self.answered - before.answered),
            failed=max(0, self.failed - before.failed),
            declined=max(0, self.declined - before.declined),
            up=self.up - before.up,
            down=self.down - before.down,
            times=tuple(max(0, a - b) for a, b in zip(self.times, before.times, strict=True)),
        )

    @property
    def asked(self) -> int:
        return self.answered + self.failed

    @property
    def rated(self) -> int:
        return max(0, self.up) + max(0, self.down)

    def with_answer(self, seconds: float, *, declined: bool) -> Self:
        place = bisect_left(BOUNDS, seconds)
        times = (*self.times[:place], self.times[place] + 1, *self.times[place + 1 :])
        update = {"answered": self.answered + 1, "declined": self.declined + declined, "times": times}
        return self.model_copy(update=update)

    def with_shadow(self, *, declined: bool) -> Self:
        """With the answer to a copy of a question that nobody waited for."""
        return self.model_copy(update={"answered": self.answered + 1, "declined": self.declined + declined})

    def with_failure(self) -> Self:
        return self.model_copy(update={"failed": self.failed + 1})

    def with_rating(self, *, up: int, down: int) -> Self:
        return self.model_copy(update={"up": self.up + up, "down": self.down + down})

    @property
    def timed(self) -> int:
        return sum(self.times)

    def quantile(self, share: float) -> float:
        """The upper bound of the bucket in which this quantile of the times lies, in seconds; infinite for the last."""
        wanted, seen = share * self.timed, 0
        for bound, count in zip((*BOUNDS, float("inf")), self.times, strict=True):
            seen += count
            if seen >= wanted:
                return bound
        return float("inf")

    def slower_than(self, seconds: float) -> int:
        """Answers in buckets that lie above this time altogether."""
        return sum(self.times[bisect_left(BOUNDS, seconds) + 1 :])


class CanaryCounts(Wire):
    """The counts by version of one canary, as one gateway has counted them or all together."""

    versions: dict[str, VersionCounts] = Field(default_factory=dict)

    def of(self, version: str) -> VersionCounts:
        return self.versions.get(version, VersionCounts())

    @classmethod
    def total(cls, counts: Iterable["CanaryCounts"]) -> Self:
        """The sum of the counts of several gateways."""
        versions: dict[str, VersionCounts] = {}
        for each in counts:
            _add(versions, each.versions)
        return cls(versions=versions)


def _add(total: dict[str, VersionCounts], counts: Mapping[str, VersionCounts]) -> None:
    for version, count in counts.items():
        total[version] = total.get(version, VersionCounts()) + count
