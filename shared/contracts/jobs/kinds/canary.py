"""The kind `canary`: a version of a collection gets a growing share of the questions, and goes live or back."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.contracts.collections import VersionName
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["CanarySpec"]

Share = Annotated[float, Field(ge=0, le=1)]


class CanarySpec(JobSpec):
    """Answer a growing share of the questions to a collection from another of its versions; make it the live one if it
    does no worse, and go back to the live one alone as soon as it does.

    `steps` are the shares in percent. With `shadow`, so many percent of the questions are copied to the version before
    the first step, and nobody sees its answers to them. The shadow, like each step, lasts `step_seconds` at least, and
    until the version has answered `min_answers` questions in it; after `step_timeout` seconds without so many it goes
    back. The version may have that much more of its questions failed, declined or rated down than the live one
    (`max_failed`, `max_declined`, `max_disliked`: shares of 1), and at most one answer in twenty may take longer than
    `max_slower` times the live version's 95th percentile; copies are not timed. `keep` and `force` are as for
    `reindex`.
    """

    required_action = Action.WRITE
    step_outputs = {
        "promoted": "boolean",
        "reason": "text",
        "message": "text",
        "version": "text",
        "previous": "text",
        "percent": "number",
        "answered": "number",
        "answered_live": "number",
        "failed": "number",
        "failed_live": "number",
        "declined": "number",
        "declined_live": "number",
        "disliked": "number",
        "disliked_live": "number",
    }

    kind: Literal["canary"] = "canary"
    collection: str
    version: VersionName
    steps: Annotated[tuple[Annotated[float, Field(gt=0, le=100)], ...], Field(min_length=1, max_length=20)] = (
        5,
        25,
        50,
    )
    shadow: float = Field(0.0, ge=0, le=100)
    step_seconds: float = Field(600.0, ge=0, le=30 * 86400)
    min_answers: int = Field(100, ge=1, le=1_000_000)
    step_timeout: float = Field(86400.0, gt=0, le=30 * 86400)
    max_failed: Share = 0.02
    max_declined: Share = 0.05
    max_disliked: Share = 0.1
    max_slower: float = Field(1.5, ge=1, le=100)
    keep: int = Field(1, ge=0, le=20)
    force: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("each of the steps is greater than the one before")
        if self.step_timeout < self.step_seconds:
            raise ValueError("step_timeout is at least step_seconds")
        return self
