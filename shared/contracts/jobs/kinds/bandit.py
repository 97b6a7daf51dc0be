"""The kind `bandit`: the weights of a stage's variants follow what readers say of their answers."""

from typing import Literal

from pydantic import Field

from shared.contracts.envelope import Name
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["BanditSpec"]


class BanditSpec(JobSpec):
    """Set the weights of a stage's variants by Thompson sampling on readers' ratings: the share of a variant becomes
    the probability that it is the best one.

    Ratings of the last `days` count, of all tenants. No variant gets less than `floor` of the queries, and no share
    changes by more than `max_change` at once, both shares of 1. While a variant has fewer than `min_ratings`, nothing
    changes. With `apply` false the job only reports. `seed` makes the draws repeatable.
    """

    required_action = Action.ADMIN
    step_outputs = {
        "changed": "boolean",
        "message": "text",
        "best": "text",
        "best_probability": "number",
        "ratings": "number",
        "value_now": "number",
        "value_new": "number",
        "gain": "number",
        "gain_low": "number",
        "gain_high": "number",
    }

    kind: Literal["bandit"] = "bandit"
    stage: Name
    days: float = Field(30.0, gt=0, le=400)
    floor: float = Field(0.05, gt=0, le=0.5)
    max_change: float = Field(0.2, gt=0, le=1)
    min_ratings: int = Field(30, ge=1, le=1_000_000)
    apply: bool = True
    seed: int = Field(0, ge=0, lt=2**32)
