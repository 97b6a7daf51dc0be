"""Routes: which variants of a stage queries go to, by weight. A stage without a route has one variant, `default`."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from shared.contracts.envelope import Name
from shared.contracts.wire import Wire

__all__ = ["DEFAULT", "Percents", "Route", "Weights"]

DEFAULT: Final = "default"
MOST_VARIANTS: Final = 32


def _some_above_zero(weights: dict[str, float]) -> dict[str, float]:
    if weights and not any(weights.values()):
        raise ValueError("at least one weight must be above zero")
    return weights


Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Weights = Annotated[dict[Name, Weight], Field(max_length=MOST_VARIANTS), AfterValidator(_some_above_zero)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Percents = Annotated[dict[Name, Percent], Field(max_length=MOST_VARIANTS)]


class Route(Wire):
    """Where the queries of a stage go. `weights` are relative to their sum; without any, all go to `default`.

    `shadows` says of which percentage of the queries a variant gets a copy whose answer is dropped. `updated_at` is
    Unix seconds, `updated_by` is the name that the writer gave.
    """

    stage: Name
    weights: Weights = {}
    shadows: Percents = {}
    updated_at: float = 0.0
    updated_by: str = ""

    @property
    def shares(self) -> dict[str, float]:
        """The share of each variant that gets any queries; together they are 1."""
        if not self.weights:
            return {DEFAULT: 1.0}
        total = sum(self.weights.values())
        return {variant: weight / total for variant, weight in self.weights.items() if weight > 0}
