"""The kind `pipeline`: a graph of jobs."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from shared.contracts.jobs.spec import JobSpec, RetryPolicy, SpecPart

__all__ = ["PipelineStep", "PipelineSpec"]


class PipelineStep(SpecPart):
    """One step: a job spec whose strings may refer to parameters and to outputs of earlier steps as `${{ ... }}`.

    `needs` are steps that must have ended first; what a step refers to is needed too. `when` is a condition over the
    same names; a step whose condition is false is skipped, and so are those that need its outputs. `each` fans out
    over a list, `parallel` jobs at once, with `item` and `index` as names. `timeout` (seconds) counts from the step's
    start. With `cache`, a step whose spec and input artifacts are those of an earlier success is not run again. The
    pipeline goes on after the failure of a step with `allow_failure`.
    """

    job: dict[str, JsonValue]
    needs: tuple[str, ...] = ()
    when: str | None = None
    each: JsonValue = None
    parallel: int = Field(8, ge=1, le=64)
    retry: RetryPolicy | None = None
    timeout: float | None = Field(None, gt=0)
    cache: bool = False
    allow_failure: bool = False

    @field_validator("when", mode="before")
    @classmethod
    def _written(cls, when: object) -> object:
        """`when: false` switches a step off."""
        return str(when).lower() if isinstance(when, bool) else when


class PipelineSpec(JobSpec):
    """A graph of jobs."""

    is_step = False
    is_run = True
    has_children = True

    kind: Literal["pipeline"] = "pipeline"
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    parameters: dict[str, JsonValue] = {}
    steps: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")], PipelineStep], Field(min_length=1)]
    outputs: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if len(self.steps) > 200:
            raise ValueError("a pipeline has at most 200 steps")
        return self
